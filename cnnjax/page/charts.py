# SPDX-License-Identifier: Apache-2.0
"""Charts: the interactive ones, whose numbers go into the page for `page.js` to draw, and a few still ones."""

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnnjax.page.html import Html, element, join
from cnnjax.protocols.calibration import Calibration

MAX_POINTS = 1500  # of one line: more cannot be told apart, even when zoomed
_CHART_POINTS = 12_000  # of all lines of a chart: many runs share a page that stays light
_LEAST_POINTS = 100
NUM_COLORS = 8  # of the style sheet, --c0 to --c7
FORMATS = ("number", "percent", "count")


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
      x: [n], rising.
      y: [n]; values that are not finite are left out.
      label: what to call it in the read-out, apart from the others of its series.
      faint: drawn thin and pale.
      read: whether the read-out shows it.
    """

    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    label: str = ""
    faint: bool = False
    read: bool = True


class Series(NamedTuple):
    """Lines of one colour and one entry in the legend; `marks` draws their points."""

    name: str
    color: int
    lines: tuple[Line, ...]
    marks: bool = False


def chart(
    title: str, series: Sequence[Series], *, x_label: str, form: str = "number", log: bool = False, low: bool = False
) -> Html:
    """A chart with a legend that toggles, a read-out under the pointer and a zoom by dragging.

    Args:
      title: its heading.
      series: what is drawn.
      x_label: of the horizontal axis, "epoch" or "step"; all charts of a page zoom together.
      form: of the values: "number", "percent" (of 0..1) or "count".
      log: values that span much more than a decade get a logarithmic axis.
      low: the first steps may lie below the panel, so that what matters is seen (accuracies).
    """
    given = [each._replace(lines=tuple(_finite(line) for line in each.lines)) for each in series]
    values = np.concatenate([np.asarray(line.y, float) for each in given for line in each.lines] or [np.zeros(0)])
    log = log and len(values) > 0 and values.min() > 0 and values.max() > 30 * values.min()
    bottom = None
    if low and len(values):
        lines = [np.asarray(line.y, float) for each in given for line in each.lines if len(line.y)]
        bottom = float(min(np.quantile(y, 0.1 if len(y) >= 10 else 0) for y in lines))
    lines = sum(len(each.lines) for each in given)
    most = min(max(_CHART_POINTS // max(lines, 1), _LEAST_POINTS), MAX_POINTS)
    data = {
        "title": title,
        "x": x_label,
        "format": form,
        "log": bool(log),
        "bottom": bottom,
        "series": [
            {
                "name": each.name,
                "color": each.color % NUM_COLORS,
                "marks": each.marks,
                "lines": [
                    {**line._asdict(), "x": _thin(line.x, most), "y": _thin(line.y, most)} for line in each.lines
                ],
            }
            for each in given
        ],
    }
    told = _describe(title, given, x_label, form)
    # In a script element only "<" could end it; JSON has another way to write that.
    script = Html(json.dumps(data, allow_nan=False).replace("<", "\\u003c"))
    return element(
        "figure",
        element("figcaption", element("h3", title)),
        element("div", element("noscript", element("p", told)), class_="plot", data_told=told),
        Html(f'<script type="application/json">{script}</script>'),
        class_="chart",
    )


def show(value: float, form: str) -> str:
    """A value as the charts write it."""
    return f"{value:.2%}" if form == "percent" else f"{value:,.0f}" if form == "count" else f"{value:.4g}"


def _finite(line: Line) -> Line:
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    return line._replace(x=x[np.isfinite(y)], y=y[np.isfinite(y)])


def _thin(values: Sequence[float] | np.ndarray, most: int) -> list[float]:
    """At most `most` values, means of neighbours, to five figures."""
    values = np.asarray(values, float)
    group = math.ceil(len(values) / most)
    if group > 1:
        starts = np.arange(0, len(values), group)
        values = np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))
    return [float(f"{value:.5g}") for value in values]


def _describe(title: str, series: Sequence[Series], x_label: str, form: str) -> str:
    parts = []
    for each in series:
        lines = [line for line in each.lines if line.read and len(line.y)]
        if lines:
            lasts = " and ".join(show(float(line.y[-1]), form) for line in lines[:6])
            low = min(float(np.min(line.y)) for line in lines)
            high = max(float(np.max(line.y)) for line in lines)
            parts.append(f"{each.name} ends at {lasts}, between {show(low, form)} and {show(high, form)}")
    return f"{title} by {x_label}: {'; '.join(parts) or 'nothing recorded'}."


def stacked_bar(parts: Sequence[tuple[str, float, str]], told: str) -> Html:
    """Shares of a whole: (name, amount, amount as text) each."""
    whole = sum(amount for _, amount, _ in parts) or 1.0
    bars = [
        element("span", style=f"flex-grow:{amount / whole:.4f};background:var(--c{i})")
        for i, (_, amount, _) in enumerate(parts)
    ]
    legend = [
        element(
            "li",
            element("span", class_="swatch", style=f"background:var(--c{i})"),
            element("span", name),
            element("strong", f"{shown} · {amount / whole:.0%}"),
        )
        for i, (name, amount, shown) in enumerate(parts)
    ]
    bar = element("div", *bars, class_="stack", role="img", aria_label=told)
    return join([bar, element("ul", *legend, class_="stack-legend")])


def reliability(calibration: Calibration) -> Html:
    """Accuracy against confidence by bins, and below it how many examples are in each."""
    left, top, side, gap, foot = 62.0, 10.0, 300.0, 18.0, 60.0
    n = len(calibration.count)
    width, most = side / n, max(int(calibration.count.max()), 1)
    base = top + side + gap + foot
    parts = [_line(left, top + side, left + side, top, "diagonal")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y, x = top + side * (1 - share), left + side * share
        parts.append(_line(left, y, left + side, y, "grid"))
        parts.append(element("text", f"{share:.0%}", x=left - 6, y=y + 4, text_anchor="end"))
        parts.append(element("text", f"{share:.0%}", x=x, y=base + 16, text_anchor="middle"))
    for i, (count, confidence, accuracy) in enumerate(
        zip(calibration.count, calibration.confidence, calibration.accuracy, strict=True)
    ):
        if not count:
            continue
        x = round(left + i * width, 2)
        told = f"{count:,} images given about {confidence:.1%}: {accuracy:.1%} right"
        low, high = sorted((accuracy, confidence))
        kind = "surer" if confidence > accuracy else "humbler"
        tall = foot * math.sqrt(count / most)
        bars = [
            _bar(x, top + side * (1 - low), width, side * low, "bar"),
            _bar(x, top + side * (1 - high), width, side * (high - low), kind),
            _bar(x, base - tall, width, tall, "count"),
        ]
        parts.append(element("g", element("title", told), *bars))
    parts.append(element("text", "probability given", x=left + side / 2, y=base + 34, text_anchor="middle"))
    label = element(
        "text", "right", x=12, y=top + side / 2, text_anchor="middle", transform=f"rotate(-90 12 {top + side / 2})"
    )
    fullest = int(calibration.count.argmax())
    told = (
        f"Calibration: expected calibration error {calibration.ece:.2%} over {n} bins; most of the images lie in the "
        f"bin of {calibration.edges[fullest]:.0%} to {calibration.edges[fullest + 1]:.0%}."
    )
    box = f"0 0 {left + side + 24:g} {base + 42:g}"
    return element("svg", *parts, label, viewBox=box, class_="still reliability", role="img", aria_label=told)


class DotRow(NamedTuple):
    """A row of `dots`.

    Attributes:
      name: of the row.
      color: as of a Series.
      values: at least one.
      mean: of them.
      std: their standard deviation; NaN of a single one.
    """

    name: str
    color: int
    values: Sequence[float]
    mean: float
    std: float


def dots(rows: Sequence[DotRow], form: str, told: str) -> Html:
    """Values as dots, their mean as a line, with a band of a standard deviation to either side.

    Args:
      rows: at least one.
      form: of the values, as in `chart`.
      told: for readers who do not see it.
    """
    spreads = [(row.mean - row.std, row.mean + row.std) for row in rows if not math.isnan(row.std)]
    everything = [value for row in (*spreads, *(row.values for row in rows)) for value in row]
    low, high = min(everything), max(everything)
    pad = 0.08 * (high - low) or abs(high) * 0.01 or 1.0
    low, high = low - pad, high + pad
    if form == "percent":
        low, high = max(low, 0.0), min(high, 1.0)

    def place(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    drawn = []
    for row in rows:
        marks = [element("i", class_="dot", style=f"left:{place(v)}", title=show(v, form)) for v in row.values]
        if not math.isnan(row.std):
            width = f"{200 * row.std / (high - low):.2f}%"
            spread = element("i", class_="spread", style=f"left:{place(row.mean - row.std)};width:{width}")
            marks = [spread, element("i", class_="mean", style=f"left:{place(row.mean)}"), *marks]
        track = element("div", *marks, class_="track", style=f"color:var(--c{row.color % NUM_COLORS})")
        drawn.append(element("li", element("span", row.name), track))
    scale = element("div", *[element("span", show(v, form)) for v in (low, (low + high) / 2, high)], class_="dot-scale")
    return element("div", element("ul", *drawn), scale, class_="dots", role="img", aria_label=told)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _bar(x: float, y: float, width: float, height: float, class_: str) -> Html:
    numbers = {"x": x, "y": y, "width": width - 1, "height": height}
    return element("rect", class_=class_, **{name: f"{number:.2f}" for name, number in numbers.items()})
