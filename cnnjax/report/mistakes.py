# SPDX-License-Identifier: Apache-2.0
"""The worst errors, each with its picture, the truth and the guess."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from cnnjax.report.figure import BLUE, DPI, GREEN, RED, figure, shorten
from cnnjax.report.table import format_count


def plot_mistakes(
    images: np.ndarray,
    truths: Sequence[str],
    guesses: Sequence[str],
    probabilities: Sequence[float],
    path: Path,
    *,
    title: str,
    total: int,
) -> None:
    """The worst mistakes: each picture with its true class, the guess, and the probability given to the guess.

    Args:
      images: uint8 [n,H,W,C], C 1 or 3, worst first; n may be 0.
      truths: n names of the true classes.
      guesses: n names of the classes given.
      probabilities: n numbers 0..1, of the guesses.
      path: of the PNG.
      title: of the figure; how many of how many mistakes are shown is added.
      total: the number of all mistakes, of which these are the worst.

    Raises:
      RunError: the file cannot be written.
    """
    n = len(images)
    columns = min(max(math.ceil(math.sqrt(n)), 3), 6)
    rows = math.ceil(n / columns)
    aspect = min(max(images.shape[1] / images.shape[2], 0.5), 2.0) if n else 0.0
    head, cell, gap, lines = 0.58, 1.2, 0.14, 0.34  # inches: heading, a picture's width, space, the names below
    width, height = columns * (cell + gap) + gap, head + rows * (cell * aspect + lines + gap)
    with figure(path, width, height) as drawn:
        drawn.set_layout_engine("none")
        panel = drawn.add_axes((0, 0, 1, 1))
        panel.set(xlim=(0, width), ylim=(height, 0))  # inches from the upper left corner
        panel.set_axis_off()
        heading = shorten(title, 9, width - 2 * gap, "bold")
        panel.text(gap, 0.2, heading, va="center", fontsize=9, fontweight="bold")
        if not n:
            panel.text(gap, 0.4, "no mistakes", va="center", fontsize=8, color=GREEN)
            return
        if n == total:
            shown = f"all {n} mistakes" if n > 1 else "the only mistake"
        else:
            shown = f"the worst {n} of {format_count(total)} mistakes"
        legend = panel.text(gap, 0.4, f"{shown}: ", va="center", fontsize=7)
        for words, color in (("true class, ", BLUE), ("guess and its probability", RED)):
            legend = panel.annotate(words, (1, 0.5), xycoords=legend, va="center", fontsize=7, color=color)
        for i in range(n):
            row, column = divmod(i, columns)
            left, top = gap + column * (cell + gap), head + row * (cell * aspect + lines + gap)
            _draw_picture(panel, images[i], left, top, cell, cell * aspect)
            below = top + cell * aspect + 0.1
            panel.text(left, below, shorten(truths[i], 7, cell), va="center", fontsize=7, color=BLUE)
            guess, share = shorten(guesses[i], 7, cell - 0.4), f"{probabilities[i]:.1%}"
            panel.text(left, below + 0.14, guess, va="center", fontsize=7, color=RED)
            panel.text(left + cell, below + 0.14, share, va="center", ha="right", fontsize=7, color=RED)


def _draw_picture(panel: Axes, image: np.ndarray, left: float, top: float, width: float, height: float) -> None:
    """Draws one picture [H,W,C] in the middle of a box, in inches, without changing its proportions."""
    size = min(width / image.shape[1], height / image.shape[0])  # of a pixel
    x, y = left + (width - size * image.shape[1]) / 2, top + (height - size * image.shape[0]) / 2
    panel.imshow(
        image,
        cmap="gray",
        vmin=0,
        vmax=255,
        aspect="auto",
        extent=(x, x + size * image.shape[1], y + size * image.shape[0], y),
        interpolation="nearest" if size * DPI >= 1 else "hanning",  # pixels show as such unless there are too many
    )
