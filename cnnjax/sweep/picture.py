# SPDX-License-Identifier: Apache-2.0
"""The picture of a sweep: the result against the values, and the evaluations during training."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from cnnjax.metrics import format_metric
from cnnjax.report.figure import RED, figure, percent, shorten
from cnnjax.sweep.grid import SEED
from cnnjax.sweep.results import shown

GRAY = "#777777"
MOST_NAMED = 10  # lines in a legend


def plot_sweep(document: dict[str, Any], records: dict[str, list[dict[str, Any]]], path: Path, *, title: str) -> None:
    """Draws the points of a sweep: left the metric by value, a dot a run and lines through means; right by epoch.

    The key with the most values runs along the axis, numbers that span more than a factor of 8 on a logarithmic
    one; the other keys' values are lines of their own. A point that diverged is a cross at the bottom.

    Args:
      document: as `results.collect` gives it, judged.
      records: of `metrics.jsonl`, by the name of each finished point.
      path: of the PNG.
      title: of the figure.
    """
    rows, judged = document["points"], document["judged_by"]
    metric, split = judged["metric"], judged["split"]
    along = _along(rows, document["keys"])
    series = list(dict.fromkeys(_line(row, along) for row in rows))
    # One line through all: then the colours tell the courses of its values apart.
    shade = (lambda row: str(row["values"][along])) if len(series) == 1 else (lambda row: _line(row, along))
    shades = list(dict.fromkeys(map(shade, rows)))
    colors = dict(zip(shades, _colors(len(shades)), strict=True))
    with figure(path, 7.2, 3.2) as drawn:
        left, right = drawn.subplots(1, 2, width_ratios=[1.15, 1])
        place = _places(left, rows, along)
        values = [row["metrics"][split][metric] for row in rows if row["metrics"]]
        bottom = min(values) - 0.08 * ((max(values) - min(values)) or abs(max(values)) or 1.0)
        for name in series:
            own = [row for row in rows if _line(row, along) == name]
            done = [row for row in own if row["metrics"]]
            x = np.array([place(row) for row in done])
            y = np.array([row["metrics"][split][metric] for row in done])
            left.scatter(x, y, s=14, c=[colors[shade(row)] for row in done], alpha=0.7, linewidths=0, zorder=3)
            at = np.unique(x)
            means = np.array([y[x == each].mean() for each in at])
            left.plot(at, means, "-", color=colors.get(name, GRAY), label=shorten(name or "mean", 7.5, 2.0))
            lost = [place(row) for row in own if row["status"] == "diverged"]
            left.plot(lost, [bottom] * len(lost), "x", color=RED, markersize=5)
        left.set_xlabel(along)
        left.set_title(f"{split.capitalize()} {metric}, last step", loc="left")
        for row in rows:
            _draw_course(right, records.get(row["name"], []), metric, split, colors[shade(row)])
        right.set_title(f"{split.capitalize()} {metric} during training", loc="left")
        right.set_xlabel("epoch")
        for panel in (left, right):
            if metric == "accuracy":
                panel.yaxis.set_major_formatter(FuncFormatter(percent))
        if metric == "accuracy":
            right.set_ylim(bottom=max(0.0, bottom - 0.5 * (max(values) - bottom)))
        if 1 < len(series) <= MOST_NAMED:
            handles, labels = left.get_legend_handles_labels()
            drawn.legend(handles, labels, loc="outside lower center", ncols=min(len(series), 5))
        best = format_metric(metric, document["settings"][0]["mean"])
        lost = sum(row["status"] == "diverged" for row in rows)
        told = f"{title}: {len(rows)} runs, best {split} {metric} {best}" + f"; x: {lost} diverged" * bool(lost)
        drawn.suptitle(shorten(told, 9, 7.0, "bold"), fontweight="bold")


def _along(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> str:
    """The key of the axis: the one with the most values, numbers before words, the seed only when alone."""

    def rank(key: str) -> tuple[bool, bool, int]:
        values = [row["values"][key] for row in rows]
        return key != SEED, all(map(_is_number, values)), len(set(map(str, values)))

    return max(keys, key=rank)


def _line(row: dict[str, Any], along: str) -> str:
    """What tells the lines apart: the values of the other keys, without the seed."""
    others = {key: value for key, value in row["values"].items() if key not in (along, SEED)}
    return ", ".join(f"{key.rpartition('.')[2]} {shown(value)}" for key, value in others.items())


def _places(panel: Axes, rows: Sequence[dict[str, Any]], along: str) -> Any:
    """`place(row)`, where a row stands on the horizontal axis, which is scaled and labelled for it."""
    values = [row["values"][along] for row in rows]
    words = list(dict.fromkeys(json.dumps(value) if not isinstance(value, str) else value for value in values))
    if not all(map(_is_number, values)) or along == SEED:
        panel.set_xticks(range(len(words)), [shorten(word, 7.5, 3.0 / len(words)) for word in words])
        panel.set_xlim(-0.5, len(words) - 0.5)
        return lambda row: words.index(
            json.dumps(row["values"][along]) if not isinstance(row["values"][along], str) else row["values"][along]
        )
    if min(values) > 0 and max(values) > 8 * min(values):
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
    if len(set(values)) <= 8:
        panel.set_xticks(sorted(set(values)), [f"{value:g}" for value in sorted(set(values))])
    return lambda row: float(row["values"][along])


def _draw_course(panel: Axes, records: Sequence[dict[str, Any]], metric: str, split: str, color: Any) -> None:
    told = [r for r in records if r["split"] == split and math.isfinite(r.get(metric, math.nan))]
    if told:
        marker = "." if len(told) < 20 else None
        panel.plot([r["epoch"] for r in told], [r[metric] for r in told], "-", marker=marker, color=color, linewidth=1)


def _colors(count: int) -> list[Any]:
    return [colormaps["viridis"](fraction) for fraction in np.linspace(0.05, 0.85, count)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
