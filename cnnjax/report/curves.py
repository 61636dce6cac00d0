# SPDX-License-Identifier: Apache-2.0
"""How training went: loss, accuracy, learning rate and gradient norm over the run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from cnnjax.report.figure import BLUE, GREEN, ORANGE, RED, figure, percent, shorten

SPLIT_COLORS = {"train": BLUE, "validation": ORANGE, "test": GREEN}
MAX_POINTS = 600  # of one curve: more cannot be told apart at this size
MIN_SMOOTHED = 80  # points of a training curve from which a running mean is drawn over it


def plot_curves(records: Sequence[dict[str, Any]], path: Path, *, title: str) -> None:
    """How training went: loss and accuracy, and below them learning rate and gradient norm, where recorded.

    The evaluation of the validation split with the highest accuracy (without accuracies: the lowest loss) is ringed.

    Args:
      records: as `read_metrics` gives them: `step`, `split`, and any of `epoch`, `loss`, `accuracy` (0..1),
        `learning_rate`, `gradient_norm`. Drawn against `epoch` when each record has it. Values that are not finite
        are left out.
      path: of the PNG.
      title: of the figure.

    Raises:
      RunError: the file cannot be written.
    """
    axis = "epoch" if records and all("epoch" in record for record in records) else "step"
    given = {name for record in records for name in record}
    rows = [
        [name for name in ("loss", "accuracy") if name in given] or ["loss"],
        [name for name in ("learning_rate", "gradient_norm") if name in given],
    ]
    mosaic: list[Any] = [[row[0], row[-1]] for row in rows if row]
    with figure(path, 5.6, 3.9 if rows[1] else 2.8) as drawn:
        panels = drawn.subplot_mosaic(mosaic, height_ratios=[2.3, 1][: len(mosaic)], sharex=True)
        best = _best(records)
        for name, panel in panels.items():
            panel.set_title(name.replace("_", " ").capitalize(), loc="left")
            curves = {split: _series(records, split, axis, name) for split in SPLIT_COLORS}
            _draw_curves(panel, curves, smooth=name != "learning_rate")
            if best is not None and name in best and name in rows[0]:
                ring = {"markersize": 8, "markerfacecolor": "none", "markeredgecolor": RED, "markeredgewidth": 1.2}
                panel.plot(best[axis], best[name], "o", label=_best_label(best, axis), **ring)
            if name in mosaic[-1]:
                panel.set_xlabel(axis)
            _scale(panel, name, [y for _, y in curves.values() if len(y)])
        handles: dict[str, Any] = {}
        for panel in (panels[name] for name in rows[0]):
            drawn_handles, labels = panel.get_legend_handles_labels()
            handles |= dict(zip(labels, drawn_handles, strict=True))
        drawn.suptitle(shorten(title, 9, 5.4, "bold"), fontweight="bold")
        if handles:
            drawn.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
        else:
            empty = panels[rows[0][0]]
            empty.text(0.5, 0.5, "nothing recorded", ha="center", transform=empty.transAxes)


def _best(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    validation = [record for record in records if record["split"] == "validation"]
    for name, sign in (("accuracy", 1), ("loss", -1)):
        finite = [record for record in validation if math.isfinite(record.get(name, math.nan))]
        if finite:
            return max(finite, key=lambda record: sign * record[name])
    return None


def _best_label(best: dict[str, Any], axis: str) -> str:
    value = f"{best['accuracy']:.2%}" if "accuracy" in best else f"loss {best['loss']:.4g}"
    return f"best: {value}, {axis} {best[axis]:,.{0 if best[axis] == int(best[axis]) else 2}f}"


def _series(records: Sequence[dict[str, Any]], split: str, axis: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [(record[axis], record[name]) for record in records if record["split"] == split and name in record]
    x, y = np.asarray(rows, dtype=float).reshape(-1, 2).T
    return x[np.isfinite(y)], y[np.isfinite(y)]


def _draw_curves(panel: Axes, curves: dict[str, tuple[np.ndarray, np.ndarray]], *, smooth: bool) -> None:
    for split, (x, y) in curves.items():
        if not len(y):
            continue
        color, label = SPLIT_COLORS[split], "training" if split == "train" else split
        if split != "train":
            marker, most = ("o" if split == "validation" else "D"), 40
            panel.plot(x, y, "-", marker=marker, markevery=math.ceil(len(y) / most), color=color, label=label)
        elif len(y) < MIN_SMOOTHED or not smooth:
            marker = "." if len(y) < 20 else None
            panel.plot(thin(x), thin(y), "-", marker=marker, color=color, label=label)
        else:
            panel.plot(thin(x), thin(y), "-", color=color, alpha=0.3, linewidth=0.7)
            panel.plot(thin(x), thin(running_mean(y)), "-", color=color, label="training, running mean")


def thin(values: np.ndarray) -> np.ndarray:
    """At most MAX_POINTS values: means of neighbours."""
    group = math.ceil(len(values) / MAX_POINTS)
    starts = np.arange(0, len(values), group)
    return np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))


def running_mean(values: np.ndarray) -> np.ndarray:
    """Each value's mean with its neighbours, over a 40th of the curve, fewer at the ends."""
    window = np.ones(2 * (len(values) // 80) + 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _scale(panel: Axes, name: str, values: list[np.ndarray]) -> None:
    if not values:
        return
    everything = np.concatenate(values)
    if name == "accuracy":
        panel.yaxis.set_major_formatter(FuncFormatter(percent))
        # The first steps, near chance, would flatten the rest: a tenth of a long curve may lie below the panel.
        low, high = min(np.quantile(y, 0.1 if len(y) >= 10 else 0) for y in values), everything.max()
        margin = 0.08 * (high - low) or 0.01
        panel.set_ylim(max(low - margin, -0.01), min(high + margin, 1.01))
    elif name != "learning_rate" and everything.min() > 0 and everything.max() > 30 * everything.min():
        panel.set_yscale("log")
        decades = math.log10(everything.max() / everything.min())
        panel.yaxis.set_major_locator(LogLocator(subs=(1,) if decades > 3 else (1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
