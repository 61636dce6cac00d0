# SPDX-License-Identifier: Apache-2.0
"""A table of pictures: names above the columns and at the left of the rows, a line or two below each picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cnnjax.report.figure import DPI, figure, shorten

_LARGE, _SMALL, _INK, _FAINT = 7.5, 6.5, "#333333", "#777777"
_LINE, _GAP, _MARGIN, _LABEL = 0.13, 0.08, 0.12, 0.95  # inches: a line of text, between, at the border, row names
_NARROWEST = 5.4  # inches of the figure: room for its title


class Cell(NamedTuple):
    """A picture, uint8 [h,w,C] with C 1 or 3, and what to say below it, in lines."""

    picture: np.ndarray
    caption: str = ""


class Band(NamedTuple):
    """Rows that share their column names.

    Attributes:
      heads: a name, in lines, for each column.
      rows: for each row its name, in lines, and its cells, as many as there are heads; None leaves a place empty.
    """

    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell | None]]]


def picture_grid(bands: Sequence[Band], path: Path, *, title: str, note: str = "", size: float = 0.92) -> None:
    """Writes a PNG of the bands, one below the other.

    Args:
      bands: with the same number of columns at most.
      path: of the PNG.
      title: a line above them all.
      note: a line below the title that says how to read it.
      size: inches, of the longer side of a picture.

    Raises:
      RunError: the file cannot be written.
    """
    columns = max(len(band.heads) for band in bands)
    width = max(2 * _MARGIN + _LABEL + columns * (size + _GAP), _NARROWEST)
    tops, height = [], 0.36 + (0.16 if note else 0)
    for band in bands:
        height += _LINE * _most_lines(band.heads) + 0.05
        for _, cells in band.rows:
            tops.append(height)
            height += _tall(cells, size) + _LINE * _most_lines([cell.caption for cell in cells if cell]) + _GAP
        height += _GAP
    with figure(path, width, height) as drawn:
        drawn.set_layout_engine("none")
        panel = drawn.add_axes((0, 0, 1, 1))
        panel.set(xlim=(0, width), ylim=(height, 0))  # inches from the upper left corner
        panel.set_axis_off()
        room = width - 2 * _MARGIN
        panel.text(_MARGIN, 0.2, shorten(title, 9, room, "bold"), va="center", fontsize=9, fontweight="bold")
        if note:
            panel.text(_MARGIN, 0.38, shorten(note, 7, room), va="center", fontsize=7, color=_FAINT)
        lefts = [_MARGIN + _LABEL + i * (size + _GAP) for i in range(columns)]
        place = iter(tops)
        for band in bands:
            for number, (name, cells) in enumerate(band.rows):
                top, tall = next(place), _tall(cells, size)
                if number == 0:
                    for left, head in zip(lefts, band.heads, strict=False):
                        _write(panel, head, left + size / 2, top - 0.04, size + _GAP, "bottom")
                _write(panel, name, _MARGIN, top + tall / 2, _LABEL - 0.05, "center")
                for left, cell in zip(lefts, cells, strict=False):
                    if cell is not None:
                        _draw(panel, cell.picture, left, top, size)
                        below = top + tall + 0.03
                        _write(panel, cell.caption, left + size / 2, below, size + _GAP, "top", _SMALL)
        panel.set(xlim=(0, width), ylim=(height, 0))


def _most_lines(texts: Sequence[str]) -> int:
    return max((len(text.split("\n")) for text in texts if text), default=0)


def _tall(cells: Sequence[Cell | None], size: float) -> float:
    return max((size * min(cell.picture.shape[0] / cell.picture.shape[1], 1) for cell in cells if cell), default=size)


def _write(panel: Axes, text: str, x: float, y: float, room: float, edge: str, points: float = _LARGE) -> None:
    """Lines of text; names of rows begin at `x`, all others have it in their middle."""
    words = "\n".join(shorten(line, points, room - 0.02) for line in text.split("\n"))
    side = "left" if edge == "center" else "center"
    panel.text(x, y, words, va=edge, ha=side, fontsize=points, color=_INK, linespacing=1.15)


def _draw(panel: Axes, picture: np.ndarray, left: float, top: float, size: float) -> None:
    """Draws a picture, its longer side `size` inches, without changing its proportions."""
    rows, columns = picture.shape[:2]
    dot = size / max(rows, columns)
    wide, tall = dot * columns, dot * rows
    left += (size - wide) / 2
    panel.imshow(
        np.broadcast_to(picture, (rows, columns, 3)),
        aspect="auto",
        extent=(left, left + wide, top + tall, top),
        interpolation="nearest" if dot * DPI >= 1 else "hanning",  # pixels show as such unless there are too many
    )
    panel.add_patch(Rectangle((left, top), wide, tall, fill=False, edgecolor="#CCCCCC", linewidth=0.4))
