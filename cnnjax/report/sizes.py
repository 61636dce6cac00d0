# SPDX-License-Identifier: Apache-2.0
"""Accuracy against the number of training pictures, a line for each way of training, with error bars."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cnnjax.report.figure import BLUE, GREEN, ORANGE, RED, figure, percent, shorten

_COLORS, _MARKERS = (RED, ORANGE, GREEN, BLUE), ("s", "o", "^", "D")
_LABELS_APART = 1.5
_APART = 1.025  # neighbours' error bars stand side by side


def plot_sizes(
    curves: Mapping[str, Mapping[int, Sequence[float]]], path: Path, *, title: str, chance: float | None = None
) -> None:
    """Draws the mean of each point, its bar the standard deviation (n - 1) over draws; one draw has no bar.

    Args:
      curves: by name: accuracies in 0..1 by number of training pictures, one a draw.
      path: of the PNG or SVG.
      title: of the figure.
      chance: accuracy of guessing, drawn as a dashed line.

    Raises:
      RunError: the file cannot be written.
    """
    sizes = sorted({size for curve in curves.values() for size in curve})
    with figure(path, 5.2, 3.4) as drawn:
        panel = drawn.subplots()
        for i, (name, curve) in enumerate(curves.items()):
            at = [size * _APART ** (i - (len(curves) - 1) / 2) for size in sorted(curve)]
            values = [curve[size] for size in sorted(curve)]
            bars = [float(np.std(each, ddof=1)) if len(each) > 1 else 0.0 for each in values]
            style = {"color": _COLORS[i % 4], "marker": _MARKERS[i % 4], "capsize": 2, "elinewidth": 0.8}
            panel.errorbar(at, [float(np.mean(each)) for each in values], bars, label=shorten(name, 7.5, 1.4), **style)
        if chance is not None:
            panel.axhline(chance, color="#888888", linestyle="--", linewidth=0.8, label="chance")
        panel.set_xscale("log")
        # Labels that would run into each other give way to the larger number's.
        shown = [a for a, b in pairwise([*sizes, np.inf]) if b > _LABELS_APART * a]
        panel.xaxis.set_major_locator(FixedLocator(shown))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_major_formatter(FuncFormatter(percent))
        panel.set_xlabel("training pictures")
        panel.set_ylabel("test accuracy")
        drawn.suptitle(shorten(title, 9, 5.0, "bold"), fontweight="bold")
        drawn.legend(loc="outside lower center", ncols=3)
