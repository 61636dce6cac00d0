# SPDX-License-Identifier: Apache-2.0
"""The plot of growing cost: a column an axis, time above memory, both logarithmic."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

from cnnjax.bench.growth_axes import Axis, series
from cnnjax.report.figure import BLUE, GREEN, ORANGE, RED, figure

MEBIBYTE = 2**20
MEMORY = (("temp_bytes", "a step's own", BLUE), ("argument_bytes", "arguments", GREEN))
MEMORY += (("process_peak_bytes", "process", ORANGE),)


def plot_growth(document: dict[str, Any], along: Sequence[Axis], path: Path) -> None:
    """Draws `document` of `growth.json` to `path`.

    Raises:
      RunError: the file cannot be written.
    """
    with figure(path, 1.9 * len(along), 3.8) as drawn:
        panels = drawn.subplots(2, len(along), sharey="row", squeeze=False)
        for column, axis in enumerate(along):
            values, points = zip(*series(document, axis), strict=True)
            times, memory = panels[0, column], panels[1, column]
            times.plot(values, [1000 * one["seconds"] for one in points], "o-", color=RED)
            times.set_title(axis.name)
            for key, name, color in MEMORY:
                memory.plot(values, [one["memory"][key] / MEBIBYTE for one in points], "o-", color=color, label=name)
            memory.set_xlabel(axis.name)
            for panel in (times, memory):
                panel.set_xscale("log")
                panel.set_yscale("log")
                panel.yaxis.set_major_formatter("{x:g}")
                panel.xaxis.set_major_locator(FixedLocator(values))
                panel.xaxis.set_major_formatter(FixedFormatter([_short(value) for value in values]))
                panel.xaxis.set_minor_locator(NullLocator())
                panel.xaxis.set_minor_formatter(NullFormatter())
        panels[0, 0].set_ylabel("time of a step (ms)")
        panels[1, 0].set_ylabel("memory (MiB)")
        drawn.legend(*panels[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(MEMORY))


def _short(value: int) -> str:
    """16384 as 16k."""
    return f"{value // 1024}k" if value >= 1024 and value % 1024 == 0 else str(value)
