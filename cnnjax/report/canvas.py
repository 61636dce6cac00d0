# SPDX-License-Identifier: Apache-2.0
"""A page on which pictures and words are put by hand, in inches from its upper left corner."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cnnjax.report.figure import DPI, figure, shorten

MARGIN, HEAD = 0.14, 0.62  # inches: at the sides, and for title and subtitle at the top
INK, FAINT, FRAME = "#333333", "#777777", "#BBBBBB"


@contextlib.contextmanager
def canvas(path: Path, width: float, height: float, *, title: str, subtitle: str) -> Iterator[Axes]:
    """An axes in inches, y downwards, with a title and a line below it; written as PNG when the block is left.

    Raises:
      RunError: the file cannot be written.
    """
    with figure(path, width, height) as drawn:
        drawn.set_layout_engine("none")
        panel = drawn.add_axes((0, 0, 1, 1))
        panel.set_axis_off()
        panel.set(xlim=(0, width), ylim=(height, 0))
        panel.set_autoscale_on(False)
        heading = shorten(title, 9, width - 2 * MARGIN, "bold")
        panel.text(MARGIN, 0.19, heading, va="center", fontsize=9, fontweight="bold")
        line = shorten(subtitle, 7, width - 2 * MARGIN)
        panel.text(MARGIN, 0.37, line, va="center", fontsize=7, color=FAINT)
        yield panel


def write(panel: Axes, x: float, y: float, text: str, width: float, *, size: float = 7, **style: object) -> None:
    """One line of text, drawable, at most `width` inches wide, its middle at height y."""
    words = shorten(text, size, width, str(style.get("fontweight", "normal")))
    panel.text(x, y, words, **{"va": "center", "fontsize": size, "color": INK, **style})  # pyright: ignore


def draw_picture(
    panel: Axes, picture: np.ndarray, left: float, top: float, width: float, height: float, *, framed: bool = True
) -> tuple[float, float, float]:
    """Draws a picture in the middle of a place without changing its proportions.

    Args:
      panel: of `canvas`.
      picture: uint8 [h,w,C], C 1 (gray), 3 (RGB) or 4 (RGBA).
      left: of the place, in inches.
      top: likewise.
      width: likewise.
      height: likewise.
      framed: whether a thin line goes around it.

    Returns:
      x, y, size: where the picture's upper left corner is, and how large a pixel is.
    """
    size = min(width / picture.shape[1], height / picture.shape[0])
    wide, tall = size * picture.shape[1], size * picture.shape[0]
    x, y = left + (width - wide) / 2, top + (height - tall) / 2
    channels = 3 if picture.shape[2] == 1 else picture.shape[2]
    panel.imshow(
        np.broadcast_to(picture, (*picture.shape[:2], channels)),
        aspect="auto",
        extent=(x, x + wide, y + tall, y),
        interpolation="nearest" if size * DPI >= 1 else "hanning",  # pixels show as such unless there are too many
    )
    if framed:
        panel.add_patch(Rectangle((x, y), wide, tall, fill=False, edgecolor=FRAME, linewidth=0.4))
    return x, y, size
