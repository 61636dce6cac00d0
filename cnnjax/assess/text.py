# SPDX-License-Identifier: Apache-2.0
"""The numbers of an evaluation as text."""

from collections.abc import Sequence
from typing import Any

from cnnjax.metrics import format_metric
from cnnjax.protocols.corruptions import STRENGTHS
from cnnjax.report.table import format_count, format_table

MOST_PAIRS = 10  # that are listed one by one


def percent(value: float | None, *, signed: bool = False) -> str:
    """0.9142 as "91.42%"; a dash for None."""
    return "-" if value is None else f"{100 * value:{'+' if signed else ''}.2f}%"


def between(interval: Sequence[float] | None, name: str = "accuracy") -> str:
    """An interval in the unit of a metric: "90.8 to 92.0%"."""
    if interval is None:
        return "-"
    if name.endswith("accuracy"):
        return f"{100 * interval[0]:.2f} to {percent(interval[1])}"
    return f"{format_metric(name, interval[0])} to {format_metric(name, interval[1])}"


def metrics_table(summary: dict[str, float], intervals: dict[str, Any]) -> str:
    """Each metric with its 95% interval."""
    rows = [(n.replace("_", " "), format_metric(n, value), between(intervals[n], n)) for n, value in summary.items()]
    return format_table(("", "", "95% interval"), rows, "lrr")


def classes_table(classes: dict[str, dict[str, Any]]) -> str:
    """Each class with its examples, accuracy and 95% interval."""
    rows = [
        (name, format_count(each["num_examples"]), percent(each["accuracy"]), between(each["interval"]))
        for name, each in classes.items()
    ]
    return format_table(("class", "n", "accuracy", "95% interval"), rows, "lrrr")


def ensemble_text(result: dict[str, Any]) -> str:
    """The members, the ensemble and what was averaged beside it; then the pairs, and what it gains."""
    whole = result["ensemble"]
    rows: list[Any] = [_row(each["name"], each) for each in result["members"]]
    spread = f"± {100 * result['std']:.2f}%"
    rows += [None, ("mean", percent(result["mean"]), spread, "")]
    rows.append(_row(f"ensemble, mean of {whole['averaging']}", whole))
    rows += [_row(f"{each['name']} of {len(each['parts'])}", each) for each in result.get("averages", [])]
    table = format_table(("", "accuracy", "95% interval", "nll"), rows, "lrrr")
    against = whole["mcnemar_with_best"]
    gain = (
        f"The ensemble gains {percent(whole['gain_over_best'], signed=True)} over the best member ({result['best']}; "
        f"McNemar p = {against['p_value']:.2g}) and {percent(whole['gain_over_mean'], signed=True)} over their mean."
    )
    return f"{table}\n\n{gain}\n\n{_pairs(result)}"


def averages_table(summary: dict[str, Any], averages: Sequence[dict[str, Any]], name: str) -> str:
    """One run beside the averages of its weights."""
    rows = [_row(name, summary), *(_row(each["name"], each) for each in averages)]
    return format_table(("", "accuracy", "95% interval", "nll"), rows, "lrrr")


def calibration_text(found: dict[str, Any]) -> str:
    """Before and after the temperature."""
    rows = [
        (label, f"{each['nll']:.4f}", f"{each['brier']:.4f}", percent(each["ece"]))
        for label, each in (("as it is", found["before"]), (f"temperature {found['temperature']:.3f}", found["after"]))
    ]
    table = format_table(("", "nll", "Brier", "ECE"), rows, "lrrr")
    return f"{table}\nThe temperature was fitted on {format_count(found['fitted_on'])} validation images."


def corruptions_table(found: dict[str, Any]) -> str:
    """Accuracy by kind and strength."""
    rows: list[Any] = [
        (kind.replace("_", " "), *map(percent, each["accuracy"]), percent(each["mean"]))
        for kind, each in found["kinds"].items()
    ]
    blank = [""] * STRENGTHS
    rows += [None, ("all of them", *blank, percent(found["mean"])), ("as they are", *blank, percent(found["clean"]))]
    strengths = [f"strength {i}" if i == 1 else str(i) for i in range(1, STRENGTHS + 1)]
    return format_table(("accuracy under", *strengths, "mean"), rows, "l" + "r" * (STRENGTHS + 1))


def _row(name: str, each: dict[str, Any]) -> tuple[str, ...]:
    return name, percent(each["accuracy"]), between(each["interval"]), f"{each['nll']:.4f}"


def _pairs(result: dict[str, Any]) -> str:
    def measures(each: dict[str, Any]) -> list[str]:
        numbers = (each[name] for name in ("q_statistic", "error_correlation", "kappa"))
        return [percent(each["disagreement"]), *("-" if value is None else f"{value:.3f}" for value in numbers)]

    rows: list[Any] = []
    for each in result["pairs"] if len(result["pairs"]) <= MOST_PAIRS else ():
        test = each["mcnemar"]
        difference = f"{percent(test['difference'], signed=True)}"
        name = f"{each['first']}, {each['second']}"
        rows.append((name, *measures(each), difference, f"{test['only_first']}/{test['only_second']}", _p(test)))
    rows += [None] if len(rows) > 1 else []
    if len(rows) != 1:
        rows.append((f"mean of {len(result['pairs'])} pairs", *measures(result["diversity"]), "", "", ""))
    header = ("pair", "disagreement", "Q", "error corr.", "kappa", "second - first", "only one right", "McNemar p")
    return format_table(header, rows, "lrrrrrrr")


def _p(test: dict[str, Any]) -> str:
    return f"{test['p_value']:.2g}"
