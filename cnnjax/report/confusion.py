# SPDX-License-Identifier: Apache-2.0
"""Which classes are taken for which: the confusion matrix, from 2 classes to 1,000."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import FuncFormatter

from cnnjax.report.figure import BLUE, figure, percent, shorten

MAX_CELLS_WITH_COUNTS = 20  # classes
MAX_CELLS = 250  # on a side: drawn smaller, a cell is not seen


def plot_confusion(matrix: np.ndarray, label_names: Sequence[str], path: Path, *, title: str) -> None:
    """What is taken for what, and the accuracy of each class.

    Each row, one true class, is coloured by the share of its examples given to each guess. Up to 20 classes the
    cells hold the counts; with more, every so many classes are named and the commonest confusions listed below.

    Args:
      matrix: [K,K] int, `matrix[truth, guess]` the number of examples.
      label_names: K names.
      path: of the PNG.
      title: of the figure.

    Raises:
      RunError: the file cannot be written.
    """
    matrix = np.asarray(matrix)
    K = len(matrix)
    counts = matrix.sum(axis=1)
    with np.errstate(invalid="ignore"):  # a class without examples has NaN in its row
        share = matrix / counts[:, None]
    accuracy = share.diagonal()
    small = K <= MAX_CELLS_WITH_COUNTS
    side = min(max(0.34 * K, 2.0), 4.6) if small else 4.6
    width = side + 2.4
    with figure(path, width, side + (1.7 if small else 2.2)) as drawn:
        heights = [side] if small else [side, 0.45]
        grid = drawn.add_gridspec(len(heights), 2, width_ratios=[side, 0.9], height_ratios=heights)
        panel = drawn.add_subplot(grid[0, 0])
        bars = drawn.add_subplot(grid[0, 1], sharey=panel)
        block = math.ceil(K / MAX_CELLS)
        cells, box = _pool(share, block), (-0.5, K - 0.5, K - 0.5, -0.5)
        picture = panel.imshow(cells, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto", extent=box)
        _name_classes(panel, label_names, side / K)
        panel.set(xlabel="guess", ylabel="truth")
        panel.set_facecolor("#EEEEEE")  # shows where a row is empty
        if small:
            _write_counts(panel, matrix, share, side / K)
            bars.barh(range(K), accuracy, height=0.7, color=BLUE)
            for row, (value, count) in enumerate(zip(accuracy, counts, strict=True)):
                bars.text(1.05, row, f"{value:.1%}" if count else "n = 0", va="center", fontsize=7)
        else:
            bars.stairs(accuracy, np.arange(K + 1) - 0.5, orientation="horizontal", fill=True, color=BLUE)
            _list_confusions(drawn.add_subplot(grid[1, :]), matrix, label_names)
        bars.set(xlim=(0, 1), xticks=(0, 1), xlabel="accuracy")
        bars.xaxis.set_major_formatter(FuncFormatter(percent))
        bars.tick_params(axis="y", left=False, labelleft=False)
        panel.grid(False)
        bars.grid(False)
        scale = drawn.colorbar(picture, ax=panel, location="top", aspect=50, ticks=(0.01, 0.1, 0.25, 0.5, 1))
        scale.ax.xaxis.set_major_formatter(FuncFormatter(percent))
        scale.set_label("share of the true class" + (f", the largest of {block}×{block} cells" if block > 1 else ""))
        drawn.suptitle(shorten(title, 9, width - 0.2, "bold"), fontweight="bold")


def _pool(share: np.ndarray, block: int) -> np.ndarray:
    """The largest of each block of [block,block] cells: one of many classes is still seen at this size."""
    starts = np.arange(0, len(share), block)
    return np.fmax.reduceat(np.fmax.reduceat(share, starts, axis=0), starts, axis=1)


def _name_classes(panel: Axes, names: Sequence[str], cell: float) -> None:
    """Puts names at both axes, as many as fit; `cell` is the width of a class in inches."""
    size = 7.5 if len(names) <= MAX_CELLS_WITH_COUNTS else 6.5
    places = range(0, len(names), math.ceil(1.3 * size / 72 / cell))
    shown = [shorten(names[place], size, 1.3) for place in places]
    flat = all(shorten(name, size, 0.9 * cell) == name for name in shown)
    panel.set_xticks(places, shown, rotation=0 if flat else 90, fontsize=size)
    panel.set_yticks(places, shown, fontsize=size)


def _write_counts(panel: Axes, matrix: np.ndarray, share: np.ndarray, cell: float) -> None:
    size = min(8.0, 72 * 0.9 * cell / (0.64 * len(str(matrix.max()))))  # a digit is 0.64 of the letter size wide
    for row, column in zip(*np.nonzero(matrix), strict=True):
        color = "white" if share[row, column] > 0.35 else "black"
        panel.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=size, color=color)


def _list_confusions(panel: Axes, matrix: np.ndarray, label_names: Sequence[str], most: int = 6) -> None:
    panel.set_axis_off()
    wrong = matrix - np.diag(matrix.diagonal())
    cells = [divmod(int(cell), len(matrix)) for cell in np.argsort(-wrong, axis=None, kind="stable")[:most]]
    lines = [
        f"{wrong[cell]} × {shorten(label_names[cell[0]], 7, 1.2)} taken for {shorten(label_names[cell[1]], 7, 1.2)}"
        for cell in cells
        if wrong[cell]
    ]
    for column in range(2):
        text = "\n".join(lines[column * most // 2 : (column + 1) * most // 2])
        panel.text(column / 2, 1, text, va="top", fontsize=7, transform=panel.transAxes, linespacing=1.5)
