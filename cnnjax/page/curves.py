# SPDX-License-Identifier: Apache-2.0
"""How training went: a chart for each number that was logged."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnjax.page.charts import Line, Series, chart
from cnnjax.page.document import Section, note
from cnnjax.page.html import element

SPLITS = {"train": ("training", 0), "validation": ("validation", 1), "test": ("test", 2)}
CHARTS = (
    ("loss", "Loss", "number"),
    ("accuracy", "Accuracy", "percent"),
    ("psnr", "Peak signal-to-noise ratio (dB)", "number"),
    ("learning_rate", "Learning rate", "number"),
    ("gradient_norm", "Gradient norm", "number"),
    ("images_per_second", "Throughput (training images a second)", "count"),
)
LOGARITHMIC = ("loss", "gradient_norm")
MIN_SMOOTHED = 80  # points from which a running mean is drawn over a training curve


def curves_section(records: Sequence[dict[str, Any]]) -> Section:
    """The charts of a run."""
    if not records:
        return Section("curves", "Training", (note("Nothing is recorded yet."),))
    axis = x_axis(records)
    charts = []
    for name, title, form in CHARTS:
        series = []
        for split, (label, color) in SPLITS.items():
            x, y = values(records, split, axis, name)
            if not len(y):
                continue
            lines: tuple[Line, ...] = (Line(x, y),)
            if len(y) >= MIN_SMOOTHED and name in ("loss", "accuracy", "gradient_norm", "psnr"):
                lines = (Line(x, y, faint=True), Line(x, running_mean(y), read=False))
            series.append(Series(label, color, lines, marks=split != "train"))
        if series:
            charts.append(
                chart(title, series, x_label=axis, form=form, log=name in LOGARITHMIC, low=name == "accuracy")
            )
    hint = "Point to read values; drag to zoom all charts, double-click to see everything again. Legends hide and show."
    return Section("curves", "Training", (note(hint), element("div", *charts, class_="columns")))


def x_axis(records: Sequence[dict[str, Any]]) -> str:
    """What curves are drawn against: epochs where all records have them."""
    return "epoch" if all("epoch" in record for record in records) else "step"


def values(records: Sequence[dict[str, Any]], split: str, axis: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A logged number of a split as (x, y), finite values only."""
    rows = [(record[axis], record[name]) for record in records if record["split"] == split and name in record]
    x, y = np.asarray(rows, float).reshape(-1, 2).T
    return x[np.isfinite(y)], y[np.isfinite(y)]


def running_mean(y: np.ndarray) -> np.ndarray:
    """Each value's mean with its neighbours, over a 40th of the curve, fewer at the ends."""
    window = np.ones(2 * (len(y) // 80) + 1)
    return np.convolve(y, window, "same") / np.convolve(np.ones(len(y)), window, "same")
