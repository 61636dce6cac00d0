# SPDX-License-Identifier: Apache-2.0
"""The bubbles as a figure: a panel for each data set, accuracy upwards, cost to the right, area = parameters."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox, ScaledTranslation, Transform

from cnnjax.architectures.labels import Box, Bubble, leader, place_labels
from cnnjax.architectures.points import FAMILIES, PAPER, RUN, WEIGHTS, Panel, Point
from cnnjax.report.figure import BLUE, GREEN, ORANGE, RED, figure, literal, percent, shorten

COLORS = dict(zip(FAMILIES, (BLUE, ORANGE, GREEN, "#7F7F7F", "#CC79A7", "#6B5B00"), strict=True)) | {"your run": RED}
KINDS = {PAPER: "as in the paper", WEIGHTS: "weights to download", RUN: "your run"}
WIDTH = 10.5  # inches
MANY = 12  # points from which on a panel has the width of the figure
WIDE, NARROW, SMALLEST = 21.0, 13.0, 1.3  # radius in points: of the largest network in a panel of either kind; at least
LABEL_POINTS = 6.6
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def plot_architectures(
    panels: Sequence[Panel], path: Path, *, batch_size: int | None = None, machine: str = ""
) -> None:
    """Accuracy against multiply-adds, or against time where `batch_size` is given.

    Args:
      panels: one or more; against time, each point has its `seconds`.
      path: of the PNG or SVG, by its suffix.
      batch_size: images at once of the measured times.
      machine: that they were measured on.

    Raises:
      RunError: the file cannot be written.
    """
    rows = arrange([len(panel.points) for panel in panels])
    heights = [4.9 if len(panels[row[0]].points) > MANY else 3.0 for row in rows]
    with figure(path, WIDTH, sum(heights) + 0.7) as drawn:
        grid = GridSpec(len(rows), 6, figure=drawn, height_ratios=heights)
        axes: dict[int, Axes] = {}
        for place, row in enumerate(rows):
            span = 6 // len(row)
            for column, index in enumerate(row):
                axes[index] = drawn.add_subplot(grid[place, column * span : (column + 1) * span])
        for index, panel in enumerate(panels):
            _draw_bubbles(axes[index], panel, timed=batch_size is not None)
            row = next(place for place, row in enumerate(rows) if index in row)
            size = (72 * (WIDTH / len(rows[row]) - 0.8), 72 * (heights[row] - 1.0))
            _set_axes(axes[index], panel, batch_size, size)
            _area_legend(axes[index], panel)
        cost = "multiply-adds" if batch_size is None else f"time on {machine}"
        drawn.suptitle(shorten(f"Accuracy against {cost}", 10, WIDTH - 0.4, "bold"), fontweight="bold")
        _legend(drawn, panels)
        drawn.draw_without_rendering()  # the places of the panels are settled by this
        drawn.set_layout_engine("none")
        for index, panel in enumerate(panels):
            _draw_labels(axes[index], panel, timed=batch_size is not None)


def arrange(counts: Sequence[int]) -> list[list[int]]:
    """The rows of panels with so many points: those with many alone, the others two or three in a row."""
    rows = [[index] for index, count in enumerate(counts) if count > MANY]
    small = [index for index, count in enumerate(counts) if count <= MANY]
    while small:
        take = len(small) if len(small) <= 3 else 2 if len(small) in (2, 4) else 3
        rows.append(small[:take])
        small = small[take:]
    return rows


def format_count(value: float, _: object = None) -> str:
    """A number in three digits with a prefix: 1.23 G, 40.6 M."""
    for size, prefix in _PREFIXES:
        if value >= 0.9995 * size:
            return f"{_three_digits(value / size)} {prefix}"
    return _three_digits(value)


def format_seconds(value: float, _: object = None) -> str:
    """A time in three digits: 1.2 s, 35 ms, 410 µs."""
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= 0.9995 * size:
            return f"{_three_digits(value / size)} {unit}"
    return f"{_three_digits(value / 1e-9)} ns"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"


def round_sizes(largest: int) -> list[int]:
    """Three parameter counts for the legend of areas, the first digit 1, 2 or 5, none above `largest`."""
    power = 10 ** math.floor(math.log10(largest))
    top = next(digit * power for digit in (5, 2, 1) if digit * power <= largest)
    return [size for size in (max(top // 100, 1), max(top // 10, 1), top) if size >= 1]


def largest_radius(panel: Panel) -> float:
    """Of the panel's largest network, in points."""
    return WIDE if len(panel.points) > MANY else NARROW


def radius(params: float, largest: float, widest: float) -> float:
    """Of a bubble in points: its area is proportional to the parameters, but it is never too small to be seen."""
    return max(SMALLEST, widest * math.sqrt(params / largest))


def _cost(point: Point, *, timed: bool) -> float:
    return (point.seconds or math.nan) if timed else float(point.macs)


def _style(point: Point) -> dict[str, object]:
    color = COLORS[point.family]
    fill = {PAPER: 0.06, WEIGHTS: 0.42, RUN: 0.6}[point.kind]
    line = "--" if point.kind == PAPER else "-"
    return {"facecolor": (color, fill), "edgecolor": color, "linestyle": line, "linewidth": 0.9}


def _draw_bubbles(axes: Axes, panel: Panel, *, timed: bool) -> None:
    largest = max(point.params for point in panel.points)
    for point in sorted(panel.points, key=lambda point: -point.params):
        x, size = _cost(point, timed=timed), (2 * radius(point.params, largest, largest_radius(panel))) ** 2
        axes.scatter([x], [point.accuracy], s=size, zorder=3, **_style(point))  # pyright: ignore[reportArgumentType]
        if point.spread is not None:
            bar = {"ecolor": COLORS[point.family], "elinewidth": 1.0, "capsize": 2, "zorder": 3}
            axes.errorbar([x], [point.accuracy], yerr=[point.spread], **bar)


def _set_axes(axes: Axes, panel: Panel, batch_size: int | None, size: tuple[float, float]) -> None:
    """Scales, ticks and names of the axes; `size` of the panel in points, in which the widest bubble must fit."""
    costs = [math.log10(_cost(point, timed=batch_size is not None)) for point in panel.points]
    accuracies = [point.accuracy for point in panel.points]
    margin = largest_radius(panel) + 6
    low, high = _around(costs, 0.5, margin / size[0])
    axes.set_xscale("log")
    axes.set_xlim(10**low, 10**high)
    axes.set_ylim(*_around(accuracies, 0.02, margin / size[1]))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high - low < 2.5 else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(format_count if batch_size is None else format_seconds))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(round(value, 9)) if value <= 1 else ""))
    what = "multiply-adds for an image" if batch_size is None else f"time for an image, batch of {batch_size}"
    axes.set_xlabel(what)
    axes.set_ylabel(panel.accuracy)
    axes.set_title(shorten(panel.title, 9, 1.7, "bold"), loc="left", fontweight="bold", fontsize=9)


def _around(values: Sequence[float], least: float, margin: float) -> tuple[float, float]:
    """Limits of an axis around `values`, of span `least` or more, with this share of the axis free at each end."""
    middle = (min(values) + max(values)) / 2
    half = max(max(values) - min(values), least) / 2 / (1 - 2 * margin)
    return middle - half, middle + half


def _area_legend(axes: Axes, panel: Panel) -> None:
    """Circles of round sizes above the panel, from its right end leftwards."""
    largest, widest = max(point.params for point in panel.points), largest_radius(panel)
    x, y = -2.0, widest + (3 if widest == WIDE else 16)  # above the title where the panel is narrow
    drawn = axes.get_figure(root=True)
    assert drawn is not None

    def at(x: float, y: float) -> Transform:
        return axes.transAxes + ScaledTranslation(x / 72, y / 72, drawn.dpi_scale_trans)

    style = {"fontsize": 7, "va": "center_baseline", "clip_on": False}
    for size in reversed(round_sizes(largest)):
        text, r = format_count(size), radius(size, largest, widest)
        axes.text(1, 1, text, ha="right", transform=at(x, y), **style)
        x -= 4.6 * len(text) + 3 + r
        dot = {"markerfacecolor": "#88888833", "markeredgecolor": "#666666", "markeredgewidth": 0.8, "clip_on": False}
        axes.plot(1, 1, "o", markersize=2 * r, transform=at(x, y), scalex=False, scaley=False, **dot)
        x -= r + 8
    axes.text(1, 1, "parameters", ha="right", transform=at(x, y), **style)


def _legend(drawn: Figure, panels: Sequence[Panel]) -> None:
    points = [point for panel in panels for point in panel.points]
    dot = {"linestyle": "", "marker": "o", "markersize": 7}
    handles = [
        Line2D([], [], **dot, color=color, label=family)
        for family, color in COLORS.items()
        if any(point.family == family for point in points) and family != KINDS[RUN]
    ]
    grey = "#555555"
    for kind, fill in ((PAPER, "#55555512"), (WEIGHTS, "#5555556B")):
        if any(point.kind == kind for point in points):
            handles.append(Line2D([], [], **dot, markerfacecolor=fill, markeredgecolor=grey, label=KINDS[kind]))
    if any(point.kind == RUN for point in points):
        handles.append(Line2D([], [], **dot, color=RED, label=KINDS[RUN]))
    drawn.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _draw_labels(axes: Axes, panel: Panel, *, timed: bool) -> None:
    drawn = axes.get_figure(root=True)
    assert drawn is not None
    scale = 72 / drawn.dpi  # pixels to points
    largest = max(point.params for point in panel.points)
    bubbles, sizes, texts = [], [], []
    for point in panel.points:
        x, y = axes.transData.transform((_cost(point, timed=timed), point.accuracy)) * scale
        bubbles.append(Bubble(float(x), float(y), radius(point.params, largest, largest_radius(panel))))
        weight = "bold" if point.kind == RUN else "normal"
        text = axes.annotate(
            literal(point.name), (0, 0), fontsize=LABEL_POINTS, fontweight=weight, annotation_clip=False
        )
        extent: Bbox = text.get_window_extent()
        sizes.append((extent.width * scale + 1, LABEL_POINTS * 1.12))
        text.remove()
        texts.append((literal(point.name), weight))
    frame = axes.get_window_extent()
    area = Box(frame.x0 * scale + 2, frame.y0 * scale + 2, frame.width * scale, frame.height * scale - 2)
    for (text, weight), bubble, box in zip(texts, bubbles, place_labels(bubbles, sizes, area), strict=True):
        if box is None:
            continue
        style = {"fontsize": LABEL_POINTS, "fontweight": weight, "zorder": 6}
        middle = (box.x + box.w / 2 - bubble.x, box.y + box.h / 2 - bubble.y)
        center = axes.transData.inverted().transform((bubble.x / scale, bubble.y / scale))
        axes.annotate(
            text, (center[0], center[1]), middle, textcoords="offset points", ha="center", va="center_baseline", **style
        )
        if line := leader(bubble, box):
            ends = axes.transData.inverted().transform(
                [(line[0] / scale, line[1] / scale), (line[2] / scale, line[3] / scale)]
            )
            axes.plot(*ends.T, color="#777777", linewidth=0.5, zorder=5, scalex=False, scaley=False)
