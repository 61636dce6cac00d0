# SPDX-License-Identifier: Apache-2.0
"""The kernels of the network: the first layer's in colour, deeper ones slice by slice."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.errors import RunError, UsageError, nearest_first
from cnnjax.report.canvas import FAINT, HEAD, MARGIN, canvas, draw_picture, write
from cnnjax.see.filters import Kernel, find_kernels, first_layer, strongest
from cnnjax.views.drawing import signed_map
from cnnjax.views.subject import Choice, Subject, View

DEFAULT = True
_CELL, _NUMBER, _GAP = 0.62, 0.14, 0.07  # inches: a filter of the first layer, its number, space
_MOST_FILTERS, _COLUMNS = 128, 12  # of the first layer, and in a row
_SLICE, _ROWS, _ACROSS = 0.25, 16, 24  # inches, and slices at most: input channels down, output channels across
_MOST_LAYERS = 4  # deeper ones, unless one is named


def draw(subject: Subject, choice: Choice, folder: Path) -> View:
    """A page for the first layer and pages for some deeper ones, or one for the layer named.

    Raises:
      RunError: the network has neither a convolution nor a dense layer that sees the pixels.
      UsageError: there is no such layer.
    """
    shape = subject.image.shape
    kernels = find_kernels(subject.model, subject.params, subject.model_state, (shape[1], shape[2], shape[3]))
    if not kernels:
        raise RunError(f"the network of {subject.name} has no convolution, and no dense layer that sees the pixels")
    first = first_layer(kernels, shape[3])
    pictures = []
    for kernel in _shown(kernels, choice.layer):
        path = folder / f"filters_{kernel.name.removesuffix('/kernel').replace('/', '_')}.png"
        if kernel is first:
            path = folder / "filters.png"
            _draw_colored(path, subject.name, kernel)
            caption = "the first layer's filters: the patterns that it looks for in the pixels"
        else:
            _draw_slices(path, subject.name, kernel)
            caption = f"{kernel.name}: slices of its filters, input channels down, output channels across"
        pictures.append((path, caption))
    return View(tuple(pictures), {"kernels": [_numbers(kernel) for kernel in kernels]})


def _shown(kernels: Sequence[Kernel], layer: str | None) -> list[Kernel]:
    """The kernel that a layer's name or output stands for; without one the first, and some of the others."""
    if layer is None:
        # 1x1 kernels have no pattern to look at.
        rest = [kernel for kernel in kernels[1:] if max(kernel.value.shape[:2]) > 1]
        places = np.round(np.linspace(0, len(rest) - 1, min(_MOST_LAYERS, len(rest)))).astype(int)
        return [kernels[0], *(rest[i] for i in places)]
    found = [k for k in kernels if layer in (k.name, k.name.rpartition("/")[0]) or layer in k.feeds]
    if not found:
        known = [kernel.name for kernel in kernels]
        nearest = ", ".join(nearest_first(layer, known)[:12])
        raise UsageError(f"no kernel belongs to a layer {layer!r}; the kernels: {nearest}")
    exact = [kernel for kernel in found if layer not in kernel.feeds]
    return [(exact or found)[0]]


def _numbers(kernel: Kernel) -> dict[str, Any]:
    norms = np.sqrt(np.sum(kernel.value.astype(np.float64) ** 2, axis=(0, 1, 2)))
    about = {"name": kernel.name, "shape": list(kernel.value.shape), "feeds": list(kernel.feeds)}
    return {
        **about,
        "norm": {"smallest": float(norms.min()), "median": float(np.median(norms)), "largest": float(norms.max())},
    }


def _draw_colored(path: Path, name: str, kernel: Kernel) -> None:
    """Filters as pictures; of one channel blue and red, of three in the colours that excite, gray being 0."""
    height, width, channels, count = kernel.value.shape
    _, chosen = strongest(kernel.value, channels, _MOST_FILTERS)
    cell = _CELL if max(height, width) <= 11 else 2 * _CELL
    columns = min(_COLUMNS if cell == _CELL else _COLUMNS // 2, max(math.ceil(math.sqrt(2 * len(chosen))), 4))
    rows = math.ceil(len(chosen) / columns)
    tall = cell * min(max(height / width, 0.5), 2.0)
    colors = (
        "gray is weight 0, a colour a weight above 0 for it" if channels == 3 else "red above 0, white 0, blue below"
    )
    which = f"{len(chosen)} of {count}" if len(chosen) < count else f"all {count}"
    with canvas(
        path,
        max(2 * MARGIN + columns * (cell + _GAP), 4.6),
        HEAD + rows * (tall + _NUMBER + _GAP) + 0.05,
        title=f"Filters of the first layer of {name}",
        subtitle=f"{kernel.name}, {height} × {width} × {channels}, {which}, each in its own scale: {colors}",
    ) as panel:
        for i, unit in enumerate(chosen):
            row, column = divmod(i, columns)
            x, y = MARGIN + column * (cell + _GAP), HEAD + row * (tall + _NUMBER + _GAP)
            draw_picture(panel, _picture(kernel.value[..., unit]), x, y, cell, tall)
            write(panel, x + cell / 2, y + tall + _NUMBER / 2, str(unit), cell, size=6, ha="center", color=FAINT)


def _picture(weights: np.ndarray) -> np.ndarray:
    """uint8 [h,w,3] of weights [h,w,C]."""
    if weights.shape[-1] != 3:
        return signed_map(weights.mean(axis=-1))
    largest = max(float(np.abs(weights).max()), 1e-12)
    return np.round(127.5 + 127.5 * weights / largest).astype(np.uint8)


def _draw_slices(path: Path, name: str, kernel: Kernel) -> None:
    """A grid of the strongest slices, all in one scale."""
    height, width, into, out = kernel.value.shape
    inputs, outputs = strongest(kernel.value, _ROWS, _ACROSS)
    shown = kernel.value[:, :, inputs][..., outputs]
    colors = signed_map(shown)  # [h,w,I,O,3]
    cell = _SLICE if max(height, width) <= 7 else 2 * _SLICE
    tall = cell * min(max(height / width, 0.5), 2.0)
    left, top = MARGIN + 0.5, HEAD + 0.26
    shown_of = f"The {len(inputs)} × {len(outputs)} strongest of {into} × {out}"
    which = f"All {into} × {out}" if (len(inputs), len(outputs)) == (into, out) else shown_of
    with canvas(
        path,
        max(left + len(outputs) * (cell + 0.03) + MARGIN, 4.6),
        top + len(inputs) * (tall + 0.03) + MARGIN,
        title=f"{kernel.name} of {name}, {height} × {width} × {into} × {out}",
        subtitle=f"{which} channels, one scale for all: red above 0, white 0, blue below",
    ) as panel:
        write(panel, left, HEAD, "output channel", 2, size=6.5, color=FAINT)
        write(panel, MARGIN, top + 0.05, "input", 0.4, size=6.5, color=FAINT)
        for column, unit in enumerate(outputs):
            x = left + column * (cell + 0.03)
            write(panel, x + cell / 2, top - 0.09, str(unit), cell + 0.03, size=5.5, color=FAINT, ha="center")
        for row, source in enumerate(inputs):
            y = top + row * (tall + 0.03) + tall / 2
            write(panel, left - 0.06, y, str(source), 0.4, size=5.5, color=FAINT, ha="right")
        panel.imshow(
            _mosaic(colors, 0.03 / cell),
            aspect="auto",
            extent=(left, left + len(outputs) * (cell + 0.03), top + len(inputs) * (tall + 0.03), top),
            interpolation="nearest",
        )


def _mosaic(colors: np.ndarray, gap: float) -> np.ndarray:
    """One picture of the slices [h,w,I,O,3], with a gap, a share of a slice's width, after each; far faster to draw."""
    times = max(64 // max(colors.shape[:2]), 1)
    slices = colors.transpose(2, 3, 0, 1, 4).repeat(times, axis=2).repeat(times, axis=3)
    _, _, height, width, _ = slices.shape
    below, right = (max(round(gap * edge), 1) for edge in (height, width))
    padded = np.pad(slices, ((0, 0), (0, 0), (0, below), (0, right), (0, 0)), constant_values=255)
    rows, columns, height, width, _ = padded.shape
    return padded.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
