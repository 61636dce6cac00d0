# SPDX-License-Identifier: Apache-2.0
"""What excites a neuron most: the images of a set on which each channel is highest, where, and what it sees there.

One pass over the set in batches. What is kept is k numbers a channel, so any set and any network fit into memory.

Reference: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", figure 2.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.inspect.receptive import Fields
from cnnjax.see.features import trace_outputs
from cnnjax.types import Array, Model, ModelState, Params, PyTree

Maps = Callable[[PyTree, Array], Mapping[str, Array]]
"""`maps(variables, image)`: uint8 [B,H,W,C] to named activations [B,...,C], pure."""


class Top(NamedTuple):
    """The images that excite the channels of a layer most; each image counts once a channel, by its maximum.

    Attributes:
      value: [C,k] float32, the maxima of the channel over the image's places, the highest image first.
      index: [C,k] int64, the images' rows in the set; of images with equal maxima the first come first.
      place: [C,k,2] int64, row and column in the map of the maximum, the first if there are several; a layer without
        a map has the one place (0, 0).
      spread: [C] float64, the standard deviation over all images of the channel's maximum.
    """

    value: np.ndarray
    index: np.ndarray
    place: np.ndarray
    spread: np.ndarray


class Sight(NamedTuple):
    """What the places of a layer see of the image.

    Attributes:
      box: [h,w,4] int, (top, left, bottom, right): the image's pixels that each place depends on, exactly;
        bottom and right excluded.
      center: [h,w,2] float, row and column, in pixels, of the middle of the receptive field, what padding covers of
        it included; pixel (0, 0) has its middle at (0, 0).
    """

    box: np.ndarray
    center: np.ndarray


def find_top(maps: Maps, variables: PyTree, image: np.ndarray, *, k: int, batch_size: int) -> dict[str, Top]:
    """The k images that excite each channel of each layer most, from one pass over the set.

    Args:
      maps: the layers looked at; [B,h,w,C], [B,C] or other, channels last.
      variables: what `maps` needs beside the image: the network's parameters and state.
      image: uint8 [N,H,W,C], the set; may be a memory map.
      k: images a channel; N if there are fewer.
      batch_size: images at once; the result does not depend on it, but for the rounding of `maps`.
    """

    def reduce(variables: PyTree, image: Array) -> dict[str, tuple[Array, Array]]:
        found = {}
        for name, value in maps(variables, image).items():
            rows = value.astype(jnp.float32).reshape(value.shape[0], -1, value.shape[-1])
            found[name] = rows.max(axis=1), rows.argmax(axis=1)
        return found

    batch_size = min(batch_size, len(image))
    shapes = jax.eval_shape(maps, variables, jax.ShapeDtypeStruct((batch_size, *image.shape[1:]), image.dtype))
    kept = {name: _Kept(shape.shape[-1]) for name, shape in shapes.items()}
    compiled = jax.jit(reduce)
    for start in range(0, len(image), batch_size):
        rows = image[start : start + batch_size]
        padding = np.zeros((batch_size - len(rows), *rows.shape[1:]), rows.dtype)  # one shape: compiled once
        for name, (value, place) in compiled(variables, np.concatenate([rows, padding])).items():
            kept[name].add(np.asarray(value)[: len(rows)], np.asarray(place)[: len(rows)], start, k)
    return {name: each.top(shapes[name].shape[1:-1]) for name, each in kept.items()}


class _Kept:
    """What is kept of a layer's channels while the images go by."""

    def __init__(self, channels: int) -> None:
        self._value = np.zeros((channels, 0), np.float32)
        self._index, self._place = (np.zeros((channels, 0), np.int64) for _ in range(2))
        self._count, self._mean, self._squares = 0, np.zeros(channels), np.zeros(channels)

    def add(self, value: np.ndarray, place: np.ndarray, start: int, k: int) -> None:
        """Takes in the maxima [n,C] of the images from `start` on, and their places."""
        index = np.broadcast_to(np.arange(start, start + len(value)), value.T.shape)
        pairs = ((self._value, value.T), (self._index, index), (self._place, place.T))
        values, indices, places = (np.concatenate(pair, axis=1) for pair in pairs)
        # Those that were kept are of earlier images and stand first: a stable order breaks ties by index.
        best = np.argsort(-values, axis=1, kind="stable")[:, :k]
        self._value, self._index, self._place = (
            np.take_along_axis(each, best, axis=1) for each in (values, indices, places)
        )
        # Chan, Golub and LeVeque 1983: means and squared deviations of two sets joined, without cancellation.
        batch = value.astype(np.float64)
        mean, total = batch.mean(axis=0), self._count + len(batch)
        shift = mean - self._mean
        self._squares += ((batch - mean[None]) ** 2).sum(axis=0) + shift**2 * self._count * len(batch) / total
        self._mean += shift * len(batch) / total
        self._count = total

    def top(self, places: Sequence[int]) -> Top:
        """The result; `places` is the shape of the layer's map, of which rows and columns are told of two axes."""
        row, column = np.divmod(self._place, places[1] if len(places) == 2 else max(math.prod(places), 1))
        return Top(self._value, self._index, np.stack([row, column], axis=-1), np.sqrt(self._squares / self._count))


def find_sights(
    model: Model, params: Params, model_state: ModelState, image_shape: tuple[int, int, int], layers: Sequence[str]
) -> dict[str, Sight]:
    """What each place of the named layers sees, from the traced network; nothing is computed.

    Args:
      model: any pair of functions.
      params: as `model.init` makes them, or their shapes.
      model_state: likewise.
      image_shape: (H, W, C) of an image.
      layers: names among the outputs.
    """
    traced, values = trace_outputs(model, params, model_state, image_shape)
    fields = Fields(traced, traced.inputs[-1])
    sights = {}
    for name in layers:
        box = fields.boxes(values[name])
        # The middle of the pixels that are seen, unless the field is regular: then padding must not push it aside.
        center = (box[..., :2] + box[..., 2:] - 1) / 2
        field = fields.receptive_field(values[name])
        for axis in range(2):
            if field is not None and (jump := field.jump[axis]) is not None:
                steps = np.arange(box.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
                center[..., axis] = field.start[axis] + (field.size[axis] - 1) / 2 + steps * jump
        sights[name] = Sight(box, center)
    return sights


def crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The pixels [h,w,C] of an image [H,W,C] in a box (top, left, bottom, right)."""
    top, left, bottom, right = box
    return image[top:bottom, left:right]
