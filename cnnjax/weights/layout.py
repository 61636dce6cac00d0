# SPDX-License-Identifier: Apache-2.0
"""How one array of ours lies in a PyTorch file: order of axes, and what a flatten before a dense layer means.

Ours / PyTorch's: convolution kernel [h,w,I,O] / [O,I,h,w], dense kernel [I,O] / [O,I]. A dense layer after a flatten
takes its inputs in the order height, width, channel here and channel, height, width there.
"""

from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """What becomes of an array on its way in and out.

    Attributes:
      kind: "same", "conv", "dense", "flatten" (a dense layer after the flatten of side x side maps) or "window" (the
        same layer stored as a convolution of kernel size `side`).
      side: height and width in pixels of the maps before a flatten, or of the window.
    """

    kind: str
    side: int = 1

    @property
    def change(self) -> str:
        """The word for what happens to the array's axes."""
        return {"same": "taken", "conv": "transposed", "dense": "transposed"}.get(self.kind, "reshaped")


def theirs_shape(layout: Layout, ours: Shape) -> Shape:
    """The shape in a PyTorch file of an array that has shape `ours` here."""
    if layout.kind == "conv":
        height, width, into, out = ours
        return out, into, height, width
    if layout.kind in ("dense", "flatten"):
        return ours[1], ours[0]
    if layout.kind == "window":
        return ours[1], ours[0] // layout.side**2, layout.side, layout.side
    return ours


def to_ours(layout: Layout, array: np.ndarray) -> np.ndarray:
    """An array of a PyTorch file as ours, contiguous; bit for bit, only moved."""
    if layout.kind in ("flatten", "window"):
        maps = array.reshape(len(array), -1, layout.side, layout.side)
        array = maps.transpose(2, 3, 1, 0).reshape(-1, len(array))
    elif layout.kind == "conv":
        array = array.transpose(2, 3, 1, 0)
    elif layout.kind == "dense":
        array = array.T
    return np.ascontiguousarray(array).reshape(array.shape)


def to_theirs(layout: Layout, array: np.ndarray) -> np.ndarray:
    """The inverse of `to_ours`."""
    shape = theirs_shape(layout, array.shape)
    if layout.kind in ("flatten", "window"):
        array = array.reshape(layout.side, layout.side, -1, array.shape[1]).transpose(3, 2, 0, 1)
    elif layout.kind == "conv":
        array = array.transpose(3, 2, 0, 1)
    elif layout.kind == "dense":
        array = array.T
    return np.ascontiguousarray(array).reshape(shape)
