# SPDX-License-Identifier: Apache-2.0
"""Feature maps of an image on its way through the network, from edges to answers."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from cnnjax.errors import UsageError, unknown
from cnnjax.report.canvas import FAINT, HEAD, MARGIN, canvas, draw_picture, write
from cnnjax.report.figure import BLUE, GREEN, RED
from cnnjax.see.features import activity, layer_shapes, most_active
from cnnjax.views.drawing import signed_map, unsigned_map
from cnnjax.views.subject import Choice, Subject, View

DEFAULT = True
_LABEL, _CELL, _GAP, _NUMBER = 1.0, 0.74, 0.06, 0.13  # inches: layer's name, a map, between maps, a map's number
_STRIP, _BAR = 0.24, 0.15  # inches: heights of a vector, and of a bar of the answer
_MOST_MAPS = 48  # of one layer that was named, unless more are asked for
_MOST_IMAGES = 32  # pages
_ANSWERS = 5  # the likeliest classes


def draw(subject: Subject, choice: Choice, folder: Path) -> View:
    """A page for each chosen image: its most active maps layer by layer, or many maps of the layer named.

    Raises:
      UsageError: there is no such layer, or it has no map or no such channel.
    """
    _, height, width, depth = subject.image.shape
    shapes = layer_shapes(subject.model, subject.params, subject.model_state, (height, width, depth))
    maps = {name: shape for name, shape in shapes.items() if len(shape) == 3 and max(shape[:2]) > 1 and name != "recon"}
    if choice.layer is not None:
        if choice.layer not in maps:
            raise UsageError(unknown("layer with feature maps", choice.layer, maps))
        maps = {choice.layer: maps[choice.layer]}
        channels = maps[choice.layer][-1]
        if choice.unit is not None and not 0 <= choice.unit < channels:
            raise UsageError(
                f"--unit is {choice.unit}, but layer {choice.layer!r} has the channels 0 to {channels - 1}"
            )
    is_vector = {n: math.prod(s[:-1]) == 1 and n != "logits" and choice.layer is None for n, s in shapes.items()}
    shown = [name for name in shapes if name in maps or is_vector[name]]

    images = choice.image[:_MOST_IMAGES]
    apply = jax.jit(lambda *args: subject.model.apply(*args, train=False)[0])
    pictures, numbers = [], []
    for i, (image, title) in enumerate(zip(images, choice.title, strict=False)):
        outputs = apply(subject.params, subject.model_state, subject.prepare(image[None]))
        values = {name: np.asarray(outputs[name][0], np.float32) for name in shown}
        likely = np.asarray(jax.nn.softmax(outputs["logits"][0].astype(jnp.float32))) if "logits" in outputs else None
        chosen = {name: _chosen(values[name], choice) for name in maps}
        suffix = f"_{i + 1}" if len(images) > 1 else ""
        path = folder / f"features{'_' + choice.layer if choice.layer else ''}{suffix}.png".replace("/", "_")
        if choice.layer is None:
            _draw_hierarchy(path, subject, image, title, values, chosen, likely, int(choice.label[i]))
            caption = f"{title} on its way through {subject.name}: the most active maps of each layer"
        else:
            _draw_layer(path, subject, image, title, choice.layer, values[choice.layer], chosen[choice.layer])
            caption = f"{title}: maps of {choice.layer}, the most active first"
        pictures.append((path, caption))
        numbers.append({"image": title, "layers": {n: _numbers(values[n], chosen[n]) for n in maps}})
        if likely is not None:
            numbers[-1]["answer"] = {subject.label_names[k]: float(likely[k]) for k in _likeliest(likely)}
    return View(tuple(pictures), {"images": numbers})


def _chosen(maps: np.ndarray, choice: Choice) -> np.ndarray:
    if choice.unit is not None and choice.layer is not None:
        return np.array([choice.unit])
    return most_active(maps, choice.num if choice.layer is None else max(choice.num, _MOST_MAPS))


def _likeliest(likely: np.ndarray) -> np.ndarray:
    return np.argsort(-likely, kind="stable")[:_ANSWERS]


def _numbers(maps: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
    spread = activity(maps)
    return {
        "shape": list(maps.shape),
        "channels": [int(c) for c in chosen],
        "activity": [float(spread[c]) for c in chosen],
        "largest": [float(maps[..., c].max()) for c in chosen],
    }


def _colored(values: np.ndarray, *, signed: bool) -> np.ndarray:
    """A map in its own scale: black to yellow from 0 up, or blue to white at 0 to red."""
    return signed_map(values) if signed else unsigned_map(values)


def _scale(values: Iterable[np.ndarray]) -> str:
    """What the colours mean."""
    signed = {bool(value.min() < 0) for value in values}
    words = {False: "black is 0, yellow its largest value", True: "blue below 0, white 0, red above"}
    return "; ".join(words[kind] for kind in sorted(signed))


def _draw_hierarchy(
    path: Path,
    subject: Subject,
    image: np.ndarray,
    title: str,
    values: dict[str, np.ndarray],
    chosen: dict[str, np.ndarray],
    likely: np.ndarray | None,
    label: int,
) -> None:
    tall = _CELL * image.shape[0] / image.shape[1]
    columns = max([4, *(len(each) for each in chosen.values())])
    width = 2 * MARGIN + _LABEL + columns * (_CELL + _GAP)
    heights = [tall + _NUMBER + _GAP if name in chosen else _STRIP + _NUMBER + _GAP for name in values]
    answers = 0 if likely is None else min(_ANSWERS, len(likely)) * _BAR + 0.16
    height = HEAD + tall + _NUMBER + 2 * _GAP + sum(heights) + answers + 0.06
    with canvas(
        path,
        width,
        height,
        title=f"{title} on its way through {subject.name}",
        subtitle=f"The most active channels of each layer, each in its own scale: {_scale(values.values())}",
    ) as panel:
        left, top = MARGIN + _LABEL, HEAD
        _draw_pixels(panel, image, left, top, tall)
        top += tall + _NUMBER + 2 * _GAP
        for (name, value), step in zip(values.items(), heights, strict=True):
            _label(panel, top + (step - _NUMBER - _GAP) / 2, name, value.shape)
            if name in chosen:
                for i, channel in enumerate(chosen[name]):
                    _draw_map(panel, value, channel, left + i * (_CELL + _GAP), top, tall)
            else:
                strip = _colored(value.reshape(1, -1), signed=bool(value.min() < 0))
                place = (left, left + columns * (_CELL + _GAP) - _GAP, top + _STRIP, top)
                panel.imshow(strip, aspect="auto", extent=place, interpolation="nearest")
            top += step
        if likely is not None:
            _draw_answer(panel, subject, likely, label, left, top + 0.04, columns * (_CELL + _GAP) - _GAP)


def _draw_pixels(panel: Axes, image: np.ndarray, left: float, top: float, tall: float) -> None:
    """The image, and of a colour picture the three planes that it is made of."""
    _label(panel, top + tall / 2, "image", image.shape)
    draw_picture(panel, image, left, top, _CELL, tall)
    if image.shape[-1] != 3:
        return
    for i, name in enumerate(("red", "green", "blue")):
        plane = np.zeros_like(image)
        plane[..., i] = image[..., i]
        x = left + (i + 1) * (_CELL + _GAP)
        draw_picture(panel, plane, x, top, _CELL, tall)
        write(panel, x + _CELL / 2, top + tall + _NUMBER / 2, name, _CELL, size=6, ha="center", color=FAINT)


def _label(panel: Axes, middle: float, name: str, shape: tuple[int, ...]) -> None:
    write(panel, MARGIN, middle - 0.07, name, _LABEL - 0.1, size=8, fontweight="bold")
    size = " × ".join(map(str, shape)) if math.prod(shape[:-1]) > 1 else f"{shape[-1]} numbers"
    write(panel, MARGIN, middle + 0.08, size, _LABEL - 0.1, size=6.5, color=FAINT)


def _draw_map(panel: Axes, maps: np.ndarray, channel: int, x: float, top: float, tall: float) -> None:
    picture = _colored(maps[..., channel], signed=bool(maps.min() < 0))
    draw_picture(panel, picture, x, top, _CELL, tall, framed=False)
    write(panel, x + _CELL / 2, top + tall + _NUMBER / 2, str(channel), _CELL, size=6, ha="center", color=FAINT)


def _draw_answer(
    panel: Axes, subject: Subject, likely: np.ndarray, label: int, left: float, top: float, width: float
) -> None:
    """Bars of the likeliest classes; green is the truth, red an answer that is wrong."""
    best = _likeliest(likely)
    middle = top + len(best) * _BAR / 2
    _label(panel, middle, "answer", (len(likely),))
    name_width, room = 0.86, width - 0.86 - 0.5
    for row, k in enumerate(best):
        y = top + (row + 0.5) * _BAR
        wrong = row == 0 and label >= 0
        color = GREEN if k == label else RED if wrong else BLUE
        write(panel, left, y, subject.label_names[k], name_width - 0.06)
        panel.barh(y, max(likely[k] * room, 0.01), height=_BAR * 0.7, left=left + name_width, color=color)
        write(panel, left + name_width + float(likely[k]) * room + 0.05, y, f"{likely[k]:.1%}", 0.5)


def _draw_layer(
    path: Path, subject: Subject, image: np.ndarray, title: str, layer: str, maps: np.ndarray, chosen: np.ndarray
) -> None:
    """The image, and a grid of the layer's maps."""
    tall = _CELL * image.shape[0] / image.shape[1]
    columns = min(len(chosen), 8)
    rows = -(-len(chosen) // columns)
    width = 2 * MARGIN + _LABEL + max(columns, 5) * (_CELL + _GAP)
    height = HEAD + rows * (tall + _NUMBER + _GAP) + 0.1
    subtitle = f"{len(chosen)} of {maps.shape[-1]} channels, the most active first, each in its own scale: "
    with canvas(
        path,
        max(width, 5.0),
        max(height, HEAD + tall + 0.5),
        title=f"{title}: {layer} of {subject.name}",
        subtitle=subtitle + _scale([maps]),
    ) as panel:
        draw_picture(panel, image, MARGIN, HEAD, _LABEL - 0.16, tall * (_LABEL - 0.16) / _CELL)
        _label(panel, HEAD + tall * (_LABEL - 0.16) / _CELL + 0.2, layer, maps.shape)
        for i, channel in enumerate(chosen):
            row, column = divmod(i, columns)
            x, y = MARGIN + _LABEL + column * (_CELL + _GAP), HEAD + row * (tall + _NUMBER + _GAP)
            _draw_map(panel, maps, channel, x, y, tall)
