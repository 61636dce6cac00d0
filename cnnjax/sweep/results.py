# SPDX-License-Identifier: Apache-2.0
"""What came of a sweep: one document, and the same as text and as CSV."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.ensemble.training import read_diverged
from cnnjax.metrics import format_metric
from cnnjax.page.record import METRICS
from cnnjax.report.environment import to_plain
from cnnjax.report.table import format_table
from cnnjax.sweep.grid import SEED, Point
from cnnjax.workdir import RESULTS_FILE, read_results


def collect(points: Sequence[Point], folder: Path) -> dict[str, Any]:
    """The results of a sweep, so far.

    Returns:
      A document for `write_json`: `kind`, `keys` (that have several values), `judged_by` (`metric`, `split`, `best`:
      "highest" or "lowest"; None before the first end), `points` (in the grid's order: `name`, `values`, `status`
      "finished", "diverged" or "open", `step`, and `metrics` by split) and `settings` (the points taken together
      over their seeds, the best first: `values`, `runs`, `mean`, `std`, `test_mean`).
      A best one is chosen on validation; on the test set only where there is no validation split.
    """
    rows = [_row(point, folder) for point in points]
    keys = list(points[0].values)
    finished = [row for row in rows if row["metrics"]]
    document: dict[str, Any] = {"kind": "sweep", "keys": keys, "judged_by": None, "points": rows, "settings": []}
    if finished:
        # A point that diverged has no results: judged by what all the others have.
        split = "validation" if "validation" in finished[0]["metrics"] else "test"
        metric = next((n for n in METRICS if all(n in row["metrics"][split] for row in finished)), "loss")
        best = "lowest" if metric == "loss" else "highest"
        document["judged_by"] = {"metric": metric, "split": split, "best": best}
        document["settings"] = _settings(finished, metric, split, best)
    return to_plain(document)


def _row(point: Point, folder: Path) -> dict[str, Any]:
    path = folder / point.name
    row = {"name": point.name, "values": point.values, "status": "open", "step": None, "metrics": {}}
    if (error := read_diverged(path)) is not None:
        return {**row, "status": "diverged", "error": error}
    if not (path / RESULTS_FILE).is_file():
        return row
    results = read_results(path)
    return {**row, "status": "finished", "step": results["step"], "metrics": results["last"]}


def _settings(rows: Sequence[dict[str, Any]], metric: str, split: str, best: str) -> list[dict[str, Any]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(json.dumps(to_plain(without_seed(row["values"]))), []).append(row)
    settings = []
    for group in groups.values():
        judged = [row["metrics"][split][metric] for row in group]
        tested = [row["metrics"]["test"][metric] for row in group if "test" in row["metrics"]]
        settings.append(
            {
                "values": without_seed(group[0]["values"]),
                "runs": len(group),
                "mean": float(np.mean(judged)),
                "std": float(np.std(judged, ddof=1)) if len(judged) > 1 else None,
                "test_mean": float(np.mean(tested)) if tested else None,
            }
        )
    return sorted(settings, key=lambda setting: setting["mean"], reverse=best == "highest")


def without_seed(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a point but its seed: what is studied."""
    return {key: value for key, value in values.items() if key != SEED}


def format_results(document: dict[str, Any]) -> str:
    """The document as text: a table of the points and, with several seeds, one of the settings; then the best."""
    rows, judged = document["points"], document["judged_by"]
    columns = _columns(rows)
    header = (*document["keys"], "status", *(f"{split} {name.replace('_', ' ')}" for split, name in columns))
    lines = [
        (
            *map(shown, row["values"].values()),
            row["status"],
            *(_cell(row["metrics"], split, name) for split, name in columns),
        )
        for row in rows
    ]
    parts = [format_table(header, lines, "l" * (len(document["keys"]) + 1) + "r" * len(columns))]
    if judged is None:
        return parts[0]
    metric, split = judged["metric"], judged["split"]
    several = any(setting["runs"] > 1 for setting in document["settings"])
    if several and document["settings"][0]["values"]:
        keys = list(document["settings"][0]["values"])
        lines = [
            (*map(shown, s["values"].values()), s["runs"], format_metric(metric, s["mean"]), _spread(metric, s["std"]))
            for s in document["settings"]
        ]
        head = (*keys, "runs", f"{split} {metric}, mean", "std")
        parts.append(format_table(head, lines, "l" * len(keys) + "rrr"))
    parts.append(_verdict(document))
    return "\n\n".join(parts)


def shown(value: Any) -> Any:
    """A value as it is typed: JSON has lists for tuples."""
    return str(tuple(value)) if isinstance(value, list) else value


def _verdict(document: dict[str, Any]) -> str:
    best, judged = document["settings"][0], document["judged_by"]
    metric, split = judged["metric"], judged["split"]
    values = ", ".join(f"config.{key}={shown(value)}" for key, value in best["values"].items())
    spread = "" if best["std"] is None else f" ± {_spread(metric, best['std'])} over {best['runs']} seeds"
    told = f"{split} {metric} {format_metric(metric, best['mean'])}{spread}"
    if split != "test" and best["test_mean"] is not None:
        told += f", test {format_metric(metric, best['test_mean'])}"
    warning = "" if split != "test" else " (chosen on the test set, for want of a validation split: too good a number)"
    return f"best: {values}: {told}{warning}" if values else f"all seeds: {told}"


def format_csv(document: dict[str, Any]) -> str:
    """The points as CSV, a header first; what a point lacks is empty."""
    rows, text = document["points"], io.StringIO()
    columns = _columns(rows)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *document["keys"], "status", "step", *(f"{split}_{name}" for split, name in columns)])
    for row in rows:
        metrics = [row["metrics"].get(split, {}).get(name) for split, name in columns]
        writer.writerow([row["name"], *row["values"].values(), row["status"], row["step"], *metrics])
    return text.getvalue()


def _columns(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """(split, metric) of all that some row has, in order."""
    return list(dict.fromkeys((split, name) for row in rows for split, m in row["metrics"].items() for name in m))


def _cell(metrics: dict[str, dict[str, float]], split: str, name: str) -> str:
    value = metrics.get(split, {}).get(name)
    return "-" if value is None else format_metric(name, float(value))


def _spread(metric: str, std: float | None) -> str:
    if std is None:
        return "-"
    return f"{100 * std:.2f}%" if metric.endswith("accuracy") else format_metric(metric, std)
