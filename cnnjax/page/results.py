# SPDX-License-Identifier: Apache-2.0
"""The head of a run's page: its result, against the published one where there is one, and all results as a table."""

from typing import Any

from cnnjax.metrics import format_metric
from cnnjax.page.document import Section, note, tiles
from cnnjax.page.html import Html, element, join, table
from cnnjax.page.published import find_published, interval, judge
from cnnjax.page.record import RunRecord
from cnnjax.report.table import format_count, format_duration


def header(run: RunRecord, params: int | None, macs: int | None) -> Html:
    """Name, verdict and the few numbers that matter."""
    kicker = f"{run.config.model.name} on {run.info.name}"
    return join(
        [element("p", kicker, class_="kicker"), element("h1", run.name), _verdict(run), _tiles(run, params, macs)]
    )


def _verdict(run: RunRecord) -> Html:
    if run.result is None:
        return element("div", element("span", "No result yet", class_="value"), class_="verdict")
    metric, value, split, step = run.result
    count = run.info.num_examples.get(split, 0)
    images = f" on {count:,} images" if count else ""
    of = f"{split} {metric_name(metric)}{images}"
    if run.status != "finished":
        of += f", step {step:,} ({run.status})"
    number = f"{100 * value:.2f}%" if metric == "accuracy" else format_metric(metric, value)
    parts = [
        element("div", element("span", number, class_="value"), element("span", of, class_="of"), class_="verdict")
    ]
    if metric == "accuracy" and count:
        low, high = interval(value, count)
        wide = f"95% interval {low:.2%} to {high:.2%}; error {1 - value:.2%}."
        published = find_published(run.config)
        if published and split == "test":
            tone, sentence = judge(value, count, published)
            about = f" ({published.source}{', ' + published.note if published.note else ''})"
            parts.append(
                element(
                    "p",
                    sentence.removesuffix("."),
                    element("span", about, class_="soft"),
                    ".",
                    class_=f"judgement {tone}",
                )
            )
        parts.append(note(wide))
    return join(parts)


def metric_name(metric: str) -> str:
    """A metric as prose has it."""
    return {"psnr": "peak signal-to-noise ratio"}.get(metric, metric.replace("_", " "))


def _tiles(run: RunRecord, params: int | None, macs: int | None) -> Html:
    last = max(run.records, key=lambda record: record["step"], default={})
    found: list[tuple[str, object]] = [("status", run.status), ("steps", f"{run.step:,}")]
    if "epoch" in last:
        found.append(("epochs", f"{last['epoch']:.1f}".removesuffix(".0")))
    if run.times is not None:
        found.append(("time", format_duration(run.times.total)))
    if params is not None:
        found.append(("parameters", format_count(params)))
    if macs is not None:
        found.append(("multiply-adds", _short(macs)))
    found.append(("seed", run.config.seed))
    return tiles(found)


def _short(count: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def results_section(run: RunRecord) -> Section:
    """Loss and metrics of each split, of the last parameters and of the best ones on validation."""
    if run.results is None:
        words = (
            "The run is still going on."
            if run.status == "running"
            else "The run was stopped before its end; the same command goes on with it."
        )
        return Section("results", "Results", (element("p", words, class_="warning"),))
    rows = [_row(f"{split}, last step", run.results["step"], v) for split, v in run.results["last"].items()]
    if "best" in run.results:
        best = run.results["best"]
        rows += [_row(f"{split}, best on validation", best["step"], best[split]) for split in run.results["last"]]
    metrics = list(next(iter(run.results["last"].values())))
    header = ("", "step", *(name.replace("_", " ") for name in metrics))
    return Section("results", "Results", (table(header, rows, "l" + "r" * (len(header) - 1), caption="Results"),))


def _row(name: str, step: int, values: dict[str, Any]) -> tuple[str, ...]:
    return (name, format_count(step), *(format_metric(metric, float(value)) for metric, value in values.items()))
