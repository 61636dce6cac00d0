# SPDX-License-Identifier: Apache-2.0
"""Several runs on one page: results with error bars over seeds, curves over each other, and where configs differ."""

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnjax.config import flatten
from cnnjax.errors import CnnjaxError, RunError
from cnnjax.metrics import format_metric
from cnnjax.page.charts import NUM_COLORS, DotRow, Line, Series, chart, dots
from cnnjax.page.curves import CHARTS, LOGARITHMIC, MIN_SMOOTHED, running_mean, values, x_axis
from cnnjax.page.document import Section, document, note, tiles
from cnnjax.page.groups import SEED, Group, make_groups
from cnnjax.page.html import Html, element, join, table
from cnnjax.page.published import find_published
from cnnjax.page.record import RunRecord, differing, read_run
from cnnjax.page.results import metric_name
from cnnjax.page.setup import value_of
from cnnjax.report.environment import write_atomic
from cnnjax.report.table import format_duration

logger = logging.getLogger(__name__)


def write_comparison(workdirs: Sequence[Path], path: Path) -> Path:
    """Writes the page of several runs to `path`; those that cannot be read are named on it.

    Raises:
      RunError: none of them can be read, or the page cannot be written.
    """
    runs, broken = [], []
    top = common_folder(workdirs)
    for workdir in workdirs:
        try:
            runs.append(read_run(workdir, run_name(workdir, top)))
        except CnnjaxError as error:
            broken.append(str(error))
            logger.warning("left out: %s", error)
    if not runs:
        raise RunError(f"none of the {len(workdirs)} runs can be read: {broken[0]}")
    write_atomic(path, make_comparison(runs, broken))
    return path


def run_name(workdir: Path, top: Path) -> str:
    """A run's folder as seen from `top`."""
    place = workdir.expanduser().resolve()
    return str(place.relative_to(top)) if place != top and place.is_relative_to(top) else place.name


def common_folder(places: Sequence[Path]) -> Path:
    """The innermost folder that holds all of them; of a single one, itself."""
    return Path(os.path.commonpath([place.expanduser().resolve() for place in places]))


def make_comparison(runs: Sequence[RunRecord], broken: Sequence[str]) -> bytes:
    """The page as UTF-8."""
    groups = make_groups(runs)
    sections = [
        _results_section(groups, broken),
        _curves_section(groups),
        _config_section(groups),
    ]
    return document(f"{len(runs)} runs compared", _header(runs, groups), sections)


def _header(runs: Sequence[RunRecord], groups: Sequence[Group]) -> Html:
    data = sorted({run.info.name for run in runs})
    best = groups[0]
    parts = [element("p", f"on {', '.join(data)}", class_="kicker"), element("h1", f"{len(runs)} runs compared")]
    if best.judged_by and len({group.judged_by for group in groups if group.judged_by}) == 1:
        metric, split = best.judged_by
        spread = "" if math.isnan(best.std) else f" ± {_plain(metric, best.std)} over {len(best.results)} seeds"
        of = f"best {split} {metric_name(metric)}{spread}: {best.name}"
        value = element("span", format_metric(metric, best.mean), class_="value")
        parts.append(element("div", value, element("span", of, class_="of"), class_="verdict"))
    finished = sum(run.status == "finished" for run in runs)
    parts.append(tiles([("runs", len(runs)), ("finished", finished), ("groups", len(groups))]))
    return join(parts)


def _plain(metric: str, value: float) -> str:
    """A spread in the unit of its metric."""
    return f"{100 * value:.2f}%" if metric.endswith("accuracy") else format_metric(metric, value)


def _results_section(groups: Sequence[Group], broken: Sequence[str]) -> Section:
    parts: list[Html] = [element("p", f"Left out: {words}", class_="warning") for words in broken]
    metrics = {group.judged_by for group in groups if group.judged_by}
    if len(metrics) > 1:
        parts.append(note("The runs are judged by different numbers, so that their order says little."))
    for metric, split in sorted(metrics):
        own = [group for group in groups if group.judged_by == (metric, split)]
        rows = [DotRow(g.name, groups.index(g), g.results, g.mean, g.std) for g in own]
        parts.append(element("h3", f"{split.capitalize()} {metric_name(metric)}"))
        told = "; ".join(f"{row.name} {format_metric(metric, row.mean)}" for row in rows)
        parts.append(dots(rows, "percent" if metric == "accuracy" else "number", f"Results: {told}"))
        parts.append(
            note("A dot is a run; the line is the mean, the band a standard deviation over seeds to either side.")
        )
    header = ("group", "runs", "result", "std", "of", "published", "time of a run")
    rows = [_result_row(group) for group in groups]
    parts.append(table(header, rows, "lrrrlrr", caption="Results by group", sortable=True))
    singles = [
        (
            run.name,
            str(run.config.seed),
            run.status,
            f"{run.step:,}",
            format_metric(run.result.metric, run.result.value) if run.result else "-",
            format_duration(run.times.total) if run.times else "-",
        )
        for group in groups
        for run in group.runs
    ]
    header = ("run", "seed", "status", "step", "result", "time")
    listed = table(header, singles, "lrlrrr", caption="Every run", sortable=True, tall=len(singles) > 30)
    parts.append(element("details", element("summary", f"All {len(singles)} runs"), listed))
    return Section("results", "Results", tuple(parts))


def _result_row(group: Group) -> tuple[object, ...]:
    times = [run.times.total for run in group.runs if run.times]
    published = find_published(group.runs[0].config)
    metric, split = group.judged_by or ("", "")
    return (
        group.name,
        str(len(group.runs)),
        format_metric(metric, group.mean) if metric else "-",
        "-" if math.isnan(group.std) else _plain(metric, group.std),
        f"{split} {metric}" if metric else "-",
        f"{100 * published.accuracy:.2f}%" if published else "-",
        format_duration(float(np.mean(times))) if times else "-",
    )


def _curves_section(groups: Sequence[Group]) -> Section:
    records = [record for group in groups for run in group.runs for record in run.records]
    if not records:
        return Section("curves", "Training", (note("Nothing is recorded yet."),))
    axis, charts = x_axis(records), []
    for name, title, form in CHARTS:
        for split in ("train", "validation"):
            if split == "validation" and name not in ("loss", "accuracy", "psnr"):
                continue
            series = [_series(group, i, split, axis, name) for i, group in enumerate(groups)]
            drawn = [each for each in series if each.lines]
            if drawn:
                where = {"train": "training", "validation": "validation"}[split]
                heading = title if name in ("learning_rate", "images_per_second") else f"{title}, {where}"
                log = name in LOGARITHMIC
                charts.append(chart(heading, drawn, x_label=axis, form=form, log=log, low=name == "accuracy"))
    words = (
        "A colour is a group of runs that are equal but for the seed, a line is a run; long training curves are "
        "running means. Point to read values; drag to zoom all charts, double-click to see everything again."
    )
    if len(groups) > NUM_COLORS:
        words += f" There are more groups than the {NUM_COLORS} colours, which therefore come again."
    return Section("curves", "Training", (note(words), element("div", *charts, class_="columns")))


def _series(group: Group, color: int, split: str, axis: str, name: str) -> Series:
    lines = []
    for run in group.runs:
        x, y = values(run.records, split, axis, name)
        if len(y):
            smooth = split == "train" and len(y) >= MIN_SMOOTHED and name != "learning_rate"
            label = f"seed {run.config.seed}" if len(group.runs) > 1 else ""
            lines.append(Line(x, running_mean(y) if smooth else y, label))
    return Series(group.name, color, tuple(lines), marks=split != "train")


def _config_section(groups: Sequence[Group]) -> Section:
    keys = [key for key in differing(group.runs[0].config for group in groups) if key != SEED]
    if not keys:
        return Section("config", "Config", (note("All runs have one config, apart from the seed."),))
    flat = [flatten(group.runs[0].config) for group in groups]
    rows = [(element("code", key), *(value_of(config.get(key)) for config in flat)) for key in keys]
    header = ("key", *(group.name for group in groups))
    words = f"{len(keys)} of {len(set().union(*flat))} keys differ between the groups."
    shown = table(header, rows, "l" * len(header), caption="Keys in which the groups differ", tall=len(keys) > 30)
    return Section("config", "Config differences", (note(words), shown))
