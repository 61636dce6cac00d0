# SPDX-License-Identifier: Apache-2.0
"""What the views of explanations share: the question put to the network, heat maps, and rows of pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cnnjax.errors import RunError
from cnnjax.report.figure import DPI, GREEN, RED, figure, shorten
from cnnjax.types import Array
from cnnjax.views.subject import Choice, Subject, outputs_of

MOST_ROWS = 32  # of a figure; bounds its height and the memory of a batch
_INK, _FAINT = "#333333", "#777777"
_UNSIGNED, _SIGNED = "inferno", "RdBu_r"  # both read the same for the colour-blind, and in order when printed gray
_TEXT, _CELL, _GAP, _HEAD, _FOOT = 1.55, 1.12, 0.1, 0.74, 0.34  # inches: captions, a picture, between, above, below
_QUANTILE = 0.995  # of a map, which is drawn in full colour: single hot pixels would leave the rest dark

Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""


class Question(NamedTuple):
    """Some images, what the network answers, and the class that is asked about.

    Attributes:
      picture: uint8 [n,H,W,C].
      image: float32 [n,H,W,C], the network's input.
      target: int32 [n], the class asked about.
      other: int32 [n], the likeliest class beside it.
      probability: float32 [n,K].
      captions: for each image lines of (text, colour).
      numbers: for each image what is said of it, for JSON.
      lines: for the terminal.
    """

    picture: np.ndarray
    image: Array
    target: np.ndarray
    other: np.ndarray
    probability: np.ndarray
    captions: list[list[tuple[str, str]]]
    numbers: list[dict[str, Any]]
    lines: tuple[str, ...]


class Column(NamedTuple):
    """A column of pictures.

    Attributes:
      name: above it; may have two lines.
      pictures: n arrays uint8 [h,w,C], C 1 or 3.
      box: for each picture a box to frame, if any.
    """

    name: str
    pictures: Sequence[np.ndarray]
    box: Sequence[Box] | None = None


def ask(subject: Subject, choice: Choice) -> Question:
    """Puts the chosen images to the network; the first 32 of them.

    Raises:
      RunError: the network has no logits, or they are not finite.
    """
    picture = choice.image[:MOST_ROWS]
    outputs = outputs_of(subject, picture)
    if "logits" not in outputs:
        raise RunError(f"the network of {subject.name} has no classes, so there is no answer to explain")
    probability = np.asarray(jax.nn.softmax(outputs["logits"].astype(jnp.float32)))
    if not np.isfinite(probability).all():
        raise RunError("the network's output is not finite; its parameters are damaged or it diverged in training")
    answer, names = probability.argmax(axis=1), subject.label_names
    target = answer if choice.target is None else np.full_like(answer, choice.target)
    rows = np.arange(len(picture))
    rest = probability.copy()
    rest[rows, target] = -1
    other = rest.argmax(axis=1)

    captions, numbers = [], []
    for title, label, given, asked, second, p in zip(
        choice.title, choice.label, answer, target, other, probability, strict=False
    ):
        right = _INK if label < 0 else GREEN if label == given else RED
        lines = [(title, _INK), (f"{names[given]}  {p[given]:.1%}", right)]
        if asked != given:
            lines.append((f"asked: {names[asked]}  {p[asked]:.1%}", _INK))
        elif len(names) > 1:
            lines.append((f"then {names[second]}  {p[second]:.1%}", _FAINT))
        captions.append(lines)
        about = {"answer": names[given], "probability": float(p[given]), "truth": names[label] if label >= 0 else None}
        numbers.append({"image": title, **about, "class": names[asked], "class_probability": float(p[asked])})
    left_out = len(choice.image) - len(picture)
    lines = (f"the first {MOST_ROWS} images are drawn; {left_out} more were chosen",) if left_out else ()
    return Question(
        picture,
        subject.prepare(picture),
        target.astype(np.int32),
        other.astype(np.int32),
        probability,
        captions,
        numbers,
        lines,
    )


def mean_color(subject: Subject) -> Array:
    """[1,1,1,C] float32: the mean colour of the split, as the network takes it."""
    pixel = subject.image[:: max(len(subject.image) // 2048, 1)].mean(axis=(0, 1, 2)) / 255  # 2048 images tell it well
    return jnp.asarray((pixel.reshape(1, 1, 1, -1) - subject.mean) / subject.std, jnp.float32)


def black(subject: Subject) -> Array:
    """[1,1,1,C] float32: black, as the network takes it."""
    return jnp.asarray(-subject.mean / subject.std, jnp.float32)


def unsigned_map(values: np.ndarray) -> np.ndarray:
    """uint8 [h,w,3]: values [h,w] of 0 and above, black to yellow."""
    return _colored(_UNSIGNED, np.clip(values / _limit(values), 0, 1))


def signed_map(values: np.ndarray) -> np.ndarray:
    """uint8 [h,w,3]: values [h,w], blue below 0, white at 0, red above."""
    return _colored(_SIGNED, 0.5 + 0.5 * np.clip(values / _limit(values), -1, 1))


def unsigned_overlay(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """uint8 [H,W,3]: a picture in gray, the more of the map over it the larger its values [H,W] of 0 and above."""
    share = np.clip(values / _limit(values), 0, 1)
    return _blend(0.85 * _gray(picture), _colored(_UNSIGNED, share), 0.7 * share)


def signed_overlay(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """uint8 [H,W,3]: likewise, red where values [H,W] are above 0 and blue where below."""
    share = np.clip(values / _limit(values), -1, 1)
    return _blend(60 + 0.7 * _gray(picture), _colored(_SIGNED, 0.5 + 0.42 * np.sign(share)), 0.8 * np.abs(share))


def draw_rows(
    path: Path,
    title: str,
    captions: Sequence[Sequence[tuple[str, str]]],
    columns: Sequence[Column],
    keys: Sequence[tuple[bool, str, str]],
) -> None:
    """A row for each image: its caption, then its picture in each column.

    Args:
      path: of the PNG.
      title: of the figure.
      captions: for each row lines of (text, colour), the first one bold.
      columns: with one picture a row each.
      keys: colour scales to explain: (signed or not, what its low end means, what its high end means).

    Raises:
      RunError: the file cannot be written.
    """
    height_px, width_px = columns[0].pictures[0].shape[:2]
    tall = _CELL * min(max(height_px / width_px, 0.5), 2.0)
    width = _GAP + _TEXT + len(columns) * (_CELL + _GAP) + _GAP
    height = _HEAD + len(captions) * (tall + _GAP) + _FOOT
    with figure(path, width, height) as drawn:
        drawn.set_layout_engine("none")
        panel = drawn.add_axes((0, 0, 1, 1))
        panel.set(xlim=(0, width), ylim=(height, 0))  # inches from the upper left corner
        panel.set_axis_off()
        heading = shorten(title, 9, width - 2 * _GAP, "bold")
        panel.text(_GAP, 0.2, heading, va="center", fontsize=9, fontweight="bold")
        for row, lines in enumerate(captions):
            middle = _HEAD + row * (tall + _GAP) + tall / 2
            for i, (text, color) in enumerate(lines):
                weight = "bold" if i == 0 else "normal"
                words = shorten(text, 7.5, _TEXT - _GAP, weight)
                y = middle + 0.17 * (i - (len(lines) - 1) / 2)
                panel.text(_GAP, y, words, va="center", fontsize=7.5, color=color, fontweight=weight)
        for i, column in enumerate(columns):
            left = _GAP + _TEXT + i * (_CELL + _GAP)
            names = "\n".join(shorten(line, 7.5, _CELL + 0.06) for line in column.name.split("\n"))
            panel.text(left + _CELL / 2, _HEAD - 0.06, names, va="bottom", ha="center", fontsize=7.5, color=_INK)
            for row, picture in enumerate(column.pictures):
                box = None if column.box is None else column.box[row]
                _draw_picture(panel, picture, left, _HEAD + row * (tall + _GAP), _CELL, tall, box)
        _draw_keys(panel, keys, width, height - 0.17)


def _draw_picture(
    panel: Axes, picture: np.ndarray, left: float, top: float, width: float, height: float, box: Box | None
) -> None:
    """Draws one picture in the middle of a place, in inches, without changing its proportions."""
    size = min(width / picture.shape[1], height / picture.shape[0])  # of a pixel
    wide, tall = size * picture.shape[1], size * picture.shape[0]
    x, y = left + (width - wide) / 2, top + (height - tall) / 2
    panel.imshow(
        np.broadcast_to(picture, (*picture.shape[:2], 3)),
        aspect="auto",
        extent=(x, x + wide, y + tall, y),
        interpolation="nearest" if size * DPI >= 1 else "hanning",  # pixels show as such unless there are too many
    )
    panel.add_patch(Rectangle((x, y), wide, tall, fill=False, edgecolor="#CCCCCC", linewidth=0.4))
    if box is not None:
        corner, extent = (x + size * box[1], y + size * box[0]), (size * box[3], size * box[2])
        for color, line in (("black", 1.8), ("white", 0.9)):  # seen on dark and on light pictures
            panel.add_patch(Rectangle(corner, *extent, fill=False, edgecolor=color, linewidth=line))


def _draw_keys(panel: Axes, keys: Sequence[tuple[bool, str, str]], width: float, middle: float) -> None:
    """Colour scales in a line at the right, ending at `width`."""
    right = width - _GAP
    for is_signed, low, high in reversed(keys):
        ramp = np.linspace(-1 if is_signed else 0, 1, 64)[None]
        colors = signed_map(ramp) if is_signed else unsigned_map(ramp)
        end = panel.text(right, middle, high, va="center", ha="right", fontsize=7, color=_INK)
        left = end.get_window_extent().x0 / panel.figure.dpi - 0.06
        panel.imshow(colors, aspect="auto", extent=(left - 0.8, left, middle + 0.045, middle - 0.045))
        start = panel.text(left - 0.86, middle, low, va="center", ha="right", fontsize=7, color=_INK)
        right = start.get_window_extent().x0 / panel.figure.dpi - 0.25
    panel.set(xlim=(0, width))


def _limit(values: np.ndarray) -> float:
    """What is drawn in full colour; never 0, so that an empty map stays empty."""
    return max(float(np.quantile(np.abs(values), _QUANTILE)), float(np.abs(values).max()) / 4, 1e-12)


def _colored(name: str, share: np.ndarray) -> np.ndarray:
    return np.round(255 * matplotlib.colormaps[name](share)[..., :3]).astype(np.uint8)


def _gray(picture: np.ndarray) -> np.ndarray:
    """Float [H,W,3] of 0..255; luma of ITU-R BT.601."""
    weights = (0.299, 0.587, 0.114) if picture.shape[-1] == 3 else (1.0,)
    return np.repeat((picture @ np.asarray(weights))[..., None], 3, axis=-1)


def _blend(under: np.ndarray, over: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    opacity = opacity[..., None]
    return np.round((1 - opacity) * under + opacity * over).astype(np.uint8)
