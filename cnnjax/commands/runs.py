# SPDX-License-Identifier: Apache-2.0
"""List the runs below a folder: result, time, status, and what differs in their configs.

A run is finished, running (its process is alive on this machine) or stopped (the same command goes on with it).
The result is that of the test set after the last step; before the end, the last evaluation so far. Of each config
are shown the keys that are not the same in all runs, unless more than half of the runs have that value.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnjax.page.record import RunRecord

_COLUMNS = ("name", "status", "result", "step", "seconds", "start_time")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("folder", nargs="?", metavar="DIR", help="searched to its depth")
    parser.add_argument(
        "--sort",
        default="name",
        metavar="KEY",
        help=f"{', '.join(_COLUMNS)}, or a key of the config; the best result, the longest time first; default: name",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the table."""
    from cnnjax.errors import CnnjaxError, RunError, UsageError
    from cnnjax.page.record import differing, find_runs, read_run

    place = args.folder or args.workdir
    if not place:
        raise UsageError("no folder given; add one with runs in it: run.py runs DIR")
    folder = Path(place).expanduser()
    records, broken = [], []
    for path in find_runs(folder):
        name = "." if path == folder else str(path.relative_to(folder))
        try:
            records.append(read_run(path, name))
        except CnnjaxError as error:
            broken.append({"name": name, "status": "broken", "error": str(error)})
    if not records and not broken:
        raise RunError(f"there is no run in {folder}; train one: run.py --config=FILE --workdir={folder}/NAME")
    keys = differing(record.config for record in records)
    keys.sort(key=lambda key: (not key.startswith("model."), key != "data.source"))  # what tells most comes first
    records = _sorted(records, args.sort)
    if args.json:
        rows = [_plain(record, keys) for record in records] + broken
        print(json.dumps(rows, ensure_ascii=False))
    else:
        print(_table(records, broken, keys))
    return 0


def _sorted(records: "list[RunRecord]", key: str) -> "list[RunRecord]":
    """By a column or a config key; what a run lacks comes last."""
    from cnnjax.config import flatten
    from cnnjax.errors import UsageError, unknown
    from cnnjax.page.record import METRICS

    known = [*_COLUMNS, *dict.fromkeys(name for record in records for name in flatten(record.config))]
    if key.removeprefix("config.") not in known:
        raise UsageError(unknown("column (--sort)", key, known))

    def value(record: "RunRecord") -> Any:
        if key == "name":
            return record.name
        if key == "status":
            return ("running", "stopped", "finished").index(record.status)
        if key == "result":
            result = record.result
            if result is None:
                return None
            return METRICS.index(result.metric), result.value if result.metric == "loss" else -result.value
        if key == "step":
            return -record.step
        if key == "seconds":
            return -record.times.total if record.times else None
        if key == "start_time":
            return record.environment.get("start_time")
        return flatten(record.config).get(key.removeprefix("config."))

    def order(record: "RunRecord") -> tuple[bool, str, Any]:
        found = value(record)
        kind = "number" if isinstance(found, int | float) else type(found).__name__
        return found is None, kind, "" if found is None else found

    return sorted(records, key=order)


def _plain(record: "RunRecord", keys: "Sequence[str]") -> dict[str, Any]:
    from cnnjax.config import flatten
    from cnnjax.report.environment import to_plain

    flat = flatten(record.config)
    return to_plain(
        {
            "name": record.name,
            "workdir": record.path,
            "status": record.status,
            "result": record.result._asdict() if record.result else None,
            "step": record.step,
            "seconds": round(record.times.total, 1) if record.times else None,
            "start_time": record.environment.get("start_time"),
            "config": {key: flat.get(key) for key in keys},
        }
    )


def _table(records: "Sequence[RunRecord]", broken: "Sequence[dict[str, str]]", keys: "Sequence[str]") -> str:
    from cnnjax.errors import printable
    from cnnjax.metrics import format_metric
    from cnnjax.report.table import format_duration, format_table

    rows = []
    for record, differs in zip(records, _differences(records, keys), strict=True):
        result = record.result
        rows.append(
            (
                record.name,
                record.status,
                format_metric(result.metric, result.value) if result else "-",
                f"{result.split} {result.metric}" if result else "-",
                f"{record.step:,}",
                format_duration(record.times.total) if record.times else "-",
                differs,
            )
        )
    rows += [(each["name"], "broken", "-", "-", "-", "-", "") for each in broken]
    listed = format_table(("run", "status", "result", "of", "step", "time", "config"), rows, "llrlrrl")
    reasons = [f"{each['name']}: {printable(each['error'])}" for each in broken]
    if sys.stdout.isatty():  # a line that wraps is hard to read; the keys that tell most come first
        columns = shutil.get_terminal_size().columns
        listed = "\n".join(line if len(line) <= columns else line[: columns - 3] + "..." for line in listed.split("\n"))
    return "\n".join([listed, *(["", *reasons] if reasons else [])])


def _differences(records: "Sequence[RunRecord]", keys: "Sequence[str]") -> list[str]:
    """For each run the keys in which it differs from most."""
    from cnnjax.config import flatten
    from cnnjax.report.environment import to_plain

    flat = [flatten(record.config) for record in records]
    texts = [
        {key: value if isinstance(value := config.get(key), str) else json.dumps(to_plain(value)) for key in keys}
        for config in flat
    ]
    lasts = [key.rpartition(".")[2] for key in keys]
    short = {key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)}
    shown = []
    for own in texts:
        rare = [key for key in keys if 2 * sum(text[key] == own[key] for text in texts) <= len(texts)]
        shown.append("  ".join(f"{short[key]}={own[key]}" for key in rare))
    return shown
