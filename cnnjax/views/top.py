# SPDX-License-Identifier: Apache-2.0
"""The images that excite single neurons most, and the patch that each neuron sees of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cnnjax.errors import UsageError, unknown
from cnnjax.report.canvas import FAINT, HEAD, INK, MARGIN, canvas, draw_picture, write
from cnnjax.report.table import format_count
from cnnjax.see.features import layer_shapes
from cnnjax.see.top import Sight, Top, crop, find_sights, find_top
from cnnjax.types import Array, ModelState, Params
from cnnjax.views.subject import Choice, Subject, View

DEFAULT = True
_LABEL, _GAP = 1.0, 0.14  # inches: a row's name, space
_PATCH, _SIDE = 0.28, 3  # inches, patches on a side: a neuron's block in the overview
_CELL, _PAIRS, _BELOW = 0.78, 5, 0.3  # inches, pairs a row, inches of captions: the page of a layer
_MOST_LAYERS = 6  # of the overview
_LARGEST_MAPS = 2**24  # numbers of one layer at once: 64 MB


def draw(subject: Subject, choice: Choice, folder: Path) -> View:
    """An overview of all layers, and a page for each with the images; only that of a layer that is named.

    Raises:
      UsageError: there is no such layer, or no such channel.
    """
    _, *edges = subject.image.shape
    image_shape = (edges[0], edges[1], edges[2])
    shapes = layer_shapes(subject.model, subject.params, subject.model_state, image_shape)
    shapes = {name: shape for name, shape in shapes.items() if len(shape) in (1, 3) and name != "recon"}
    layers = [choice.layer] if choice.layer is not None else _spaced([*shapes], _MOST_LAYERS)
    if layers[0] not in shapes:
        raise UsageError(unknown("layer", layers[0], shapes))
    sights = find_sights(subject.model, subject.params, subject.model_state, image_shape, layers)

    def maps(variables: tuple[Params, ModelState], image: Array) -> Mapping[str, Array]:
        outputs, _ = subject.model.apply(*variables, subject.prepare(image), train=False)
        return {name: outputs[name] for name in layers}

    largest = max(int(np.prod(shape)) for shape in shapes.values())
    batch_size = int(np.clip(_LARGEST_MAPS // max(largest, 1), 1, 256))
    variables = subject.params, subject.model_state
    found = find_top(maps, variables, subject.image, k=_SIDE**2, batch_size=batch_size)
    tops = {name: found[name] for name in layers}  # in the order of the network
    units = {name: _units(name, top, choice) for name, top in tops.items()}

    pictures = []
    if choice.layer is None and choice.unit is None:
        path = folder / "top.png"
        _draw_overview(path, subject, shapes, sights, tops, units)
        caption = "the higher the layer, the more of the image a neuron sees, and the more complex what excites it"
        pictures.append((path, f"{subject.name}: {caption}"))
    for name in layers:
        path = folder / f"top_{name.replace('/', '_')}.png"
        _draw_layer(path, subject, name, shapes[name], sights[name], tops[name], units[name])
        pictures.append((path, f"the {subject.split} images that excite neurons of {name} most, and what each sees"))
    numbers = {name: _numbers(subject, sights[name], tops[name], units[name]) for name in layers}
    return View(tuple(pictures), {"split": subject.split, "images": len(subject.image), "layers": numbers})


def _spaced(names: list[str], num: int) -> list[str]:
    """At most `num` of the names in their order, the first and the last among them."""
    chosen = np.round(np.linspace(0, len(names) - 1, min(num, len(names)))).astype(int)
    return [names[i] for i in chosen]


def _units(name: str, top: Top, choice: Choice) -> list[int]:
    """The channels to show: the one asked for, or those with the largest spread; classes in their order."""
    channels = len(top.spread)
    if choice.unit is not None:
        if not 0 <= choice.unit < channels:
            raise UsageError(f"--unit is {choice.unit}, but layer {name!r} has the channels 0 to {channels - 1}")
        return [choice.unit]
    best = [int(c) for c in np.argsort(-top.spread, kind="stable")[: choice.num]]
    return sorted(best) if name == "logits" else best


def _numbers(subject: Subject, sight: Sight, top: Top, units: list[int]) -> dict[str, Any]:
    found = {}
    for unit in units:
        boxes = [[int(edge) for edge in sight.box[row, column]] for row, column in top.place[unit]]
        found[str(unit)] = {
            "spread": float(top.spread[unit]),
            "value": [float(v) for v in top.value[unit]],
            "index": [int(i) for i in top.index[unit]],
            "label": [subject.label_names[subject.label[i]] for i in top.index[unit]],
            "place": [[int(p) for p in place] for place in top.place[unit]],
            "box": boxes,
        }
    return {"sees": _sees(sight), "units": found}


def _sees(sight: Sight) -> list[int]:
    """Height and width of the largest field of a layer, in pixels of the image."""
    return [int(edge) for edge in (sight.box[..., 2:] - sight.box[..., :2]).max(axis=(0, 1))]


def _name(subject: Subject, layer: str, unit: int) -> str:
    is_class = layer == "logits" and unit < len(subject.label_names)
    return subject.label_names[unit] if is_class else f"channel {unit}"


def _describe(panel: Axes, middle: float, name: str, shape: Sequence[int], sight: Sight, image: np.ndarray) -> None:
    write(panel, MARGIN, middle - 0.14, name, _LABEL - 0.1, size=8, fontweight="bold")
    size = " × ".join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} neurons"
    height, width = _sees(sight)
    sees = "sees the image" if [height, width] == [*image.shape[1:3]] else f"sees {height} × {width} pixels"
    write(panel, MARGIN, middle + 0.02, size, _LABEL - 0.1, size=6.5, color=FAINT)
    write(panel, MARGIN, middle + 0.15, sees, _LABEL - 0.02, size=6.5, color=FAINT)


def _draw_overview(
    path: Path,
    subject: Subject,
    shapes: Mapping[str, tuple[int, ...]],
    sights: Mapping[str, Sight],
    tops: Mapping[str, Top],
    units: Mapping[str, list[int]],
) -> None:
    """For each layer a row of neurons, for each neuron the patches that excite it most."""
    image = subject.image
    tall = _PATCH * min(max(image.shape[1] / image.shape[2], 0.5), 2.0)
    across = max(4, *(len(each) for each in units.values()))
    block, step = _SIDE * _PATCH, _SIDE * tall + 0.18 + 0.2
    width = 2 * MARGIN + _LABEL + 0.1 + across * (block + _GAP)
    count = format_count(len(image))
    with canvas(
        path,
        width,
        HEAD + len(tops) * step,
        title=f"What excites the neurons of {subject.name}",
        subtitle=f"For each neuron the {_SIDE**2} of {count} {subject.split} images that excite it most, "
        "cut to exactly what it sees of them; gray is beyond the border",
    ) as panel:
        for row, (name, top) in enumerate(tops.items()):
            y = HEAD + row * step
            _describe(panel, y + 0.18 + _SIDE * tall / 2, name, shapes[name], sights[name], image)
            for column, unit in enumerate(units[name]):
                x = MARGIN + _LABEL + 0.1 + column * (block + _GAP)
                words = _name(subject, name, unit)
                write(panel, x + block / 2, y + 0.09, words, block + _GAP, size=6.5, color=FAINT, ha="center")
                for i, (index, place) in enumerate(zip(top.index[unit], top.place[unit], strict=True)):
                    down, right = divmod(i, _SIDE)
                    corner = x + right * _PATCH, y + 0.18 + down * tall
                    _draw_patch(panel, image[index], sights[name], place, *corner, _PATCH - 0.015, tall - 0.015)


def _draw_patch(
    panel: Axes, image: np.ndarray, sight: Sight, place: np.ndarray, x: float, y: float, width: float, height: float
) -> None:
    """The patch that a place sees, where it lies in a field that the border does not cut; gray is beyond it."""
    box = sight.box[tuple(place)]
    tall, wide = _sees(sight)
    patch = crop(image, box)
    if not patch.size:
        return
    field = np.full((tall, wide, image.shape[-1]), 232, np.uint8)
    top, left = (
        before if start == 0 and end < length else 0
        for before, start, end, length in (
            (tall - len(patch), box[0], box[2], image.shape[0]),
            (wide - patch.shape[1], box[1], box[3], image.shape[1]),
        )
    )
    field[top : top + len(patch), left : left + patch.shape[1]] = patch
    draw_picture(panel, field, x, y, width, height)


def _draw_layer(
    path: Path, subject: Subject, name: str, shape: tuple[int, ...], sight: Sight, top: Top, units: list[int]
) -> None:
    """For each neuron a row of images with what it sees framed, and beside each that patch, larger."""
    image = subject.image
    tall = _CELL * min(max(image.shape[1] / image.shape[2], 0.5), 2.0)
    whole = _sees(sight) == [*image.shape[1:3]] and sight.box[..., 0].size == 1
    cells = 1 if whole else 2
    shown = min(_PAIRS * 2 // cells, top.index.shape[1])
    pair = cells * _CELL + (cells - 1) * 0.05 + _GAP
    width = 2 * MARGIN + _LABEL - 0.2 + shown * pair
    count = format_count(len(image))
    height, across = _sees(sight)
    what = "each sees the whole image" if whole else f"each sees {height} × {across} pixels: framed, and beside it"
    with canvas(
        path,
        max(width, 4.5),
        HEAD + len(units) * (tall + _BELOW),
        title=f"What excites neurons of {name} ({' × '.join(map(str, shape))}), {subject.name}",
        subtitle=f"The highest of {count} {subject.split} images; {what}; the number is the activation",
    ) as panel:
        for row, unit in enumerate(units):
            y = HEAD + row * (tall + _BELOW)
            write(panel, MARGIN, y + tall / 2, _name(subject, name, unit), _LABEL - 0.25, fontweight="bold")
            for i in range(shown):
                x = MARGIN + _LABEL - 0.2 + i * pair
                index, place = top.index[unit, i], top.place[unit, i]
                corner = draw_picture(panel, image[index], x, y, _CELL, tall)
                if not whole:
                    _mark(panel, sight, place, *corner)
                    _draw_patch(panel, image[index], sight, place, x + _CELL + 0.05, y, _CELL, tall)
                label, value = subject.label_names[subject.label[index]], f"{top.value[unit, i]:.3g}"
                write(panel, x, y + tall + 0.1, label, pair - _GAP - 0.27, size=6.5)
                end = x + pair - _GAP
                write(panel, end, y + tall + 0.1, value, 0.6, size=6.5, color=FAINT, ha="right")


def _mark(panel: Axes, sight: Sight, place: np.ndarray, x: float, y: float, size: float) -> None:
    """Frames what a place sees of an image drawn at (x, y), and marks the middle of its field with a cross."""
    top, left, bottom, right = sight.box[tuple(place)]
    corner, extent = (x + size * left, y + size * top), (size * (right - left), size * (bottom - top))
    row, column = sight.center[tuple(place)] + 0.5
    for color, line in ((INK, 2.0), ("#FFD400", 1.0)):  # seen on dark and on light pictures
        panel.add_patch(Rectangle(corner, *extent, fill=False, edgecolor=color, linewidth=line))
        panel.plot(x + size * column, y + size * row, "+", color=color, markersize=4.5, markeredgewidth=line)
