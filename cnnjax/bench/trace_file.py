# SPDX-License-Identifier: Apache-2.0
"""The trace that jax.profiler writes: how long each operation of a compiled program took."""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.errors import RunError

_MICROSECOND = 1e-6  # the unit of the file
_END = "end: "  # before the name of an operation, an event: its last part is done, on whatever thread
_CALLERS = ("while", "call", "conditional")  # operations that run others


class Operation(NamedTuple):
    """An operation of a trace: how often it ran, and the seconds that it accounts for in all."""

    calls: int
    seconds: float


class Interval(NamedTuple):
    """An operation at work, in microseconds."""

    name: str
    start: float
    end: float


def find_trace(folder: Path) -> Path:
    """The newest `*.trace.json.gz` below `folder`.

    Raises:
      RunError: there is none.
    """
    found = sorted(folder.rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise RunError(f"the profiler wrote no trace below {folder}; its disk may be full")
    return found[-1]


def read_operations(path: Path, module: str) -> dict[str, Operation]:
    """The operations of the program `module` (XLA's name for it) by name; `share_time` says what time is theirs.

    On an accelerator those of the device count, not those by which the host launched them.

    Raises:
      RunError: the file is damaged, or holds no operation of the program.
    """
    try:
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"cannot read the trace {path}: {error}") from error
    processes = {e["pid"]: e["args"]["name"] for e in events if e.get("name") == "process_name"}
    starts: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    ends: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("ph") != "X":
            continue
        if event["name"].startswith(_END):
            ends[event["name"].removeprefix(_END)].append(event["ts"])
        elif event.get("args", {}).get("hlo_module", "").partition("(")[0] == module:
            starts[event["pid"]].append(event)
    on_device = [pid for pid in starts if processes.get(pid, "").startswith("/device:")]
    chosen = [event for pid in on_device or starts for event in starts[pid]]
    if not chosen:
        raise RunError(f"the trace {path} holds no operation of {module}")
    intervals = _intervals(chosen, {} if on_device else ends)
    calls = Counter(interval.name for interval in intervals)
    return {name: Operation(calls[name], time * _MICROSECOND) for name, time in share_time(intervals).items()}


def share_time(intervals: Iterable[Interval]) -> dict[str, float]:
    """Whose each moment is: operations at work at the same time share it equally, so that no moment counts twice.

    An operation that runs others (a loop) has the moments at which none of them is at work.
    """
    intervals = list(intervals)
    changes = sorted(
        [(interval.start, 1, interval.name) for interval in intervals]
        + [(interval.end, -1, interval.name) for interval in intervals]
    )
    times: dict[str, float] = dict.fromkeys((interval.name for interval in intervals), 0.0)
    active: Counter[str] = Counter()
    before = 0.0
    for moment, change, name in changes:
        if active:
            sharing = [one for one in active if not one.startswith(_CALLERS)] or list(active)
            for one in sharing:
                times[one] += (moment - before) / len(sharing)
        before = moment
        active[name] += change
        if not active[name]:
            del active[name]
    return times


def _intervals(events: list[dict[str, Any]], ends: Mapping[str, list[float]]) -> list[Interval]:
    """An event covers the call of an operation; one that left work to other threads goes on until its end event."""
    by_name: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        by_name[event["args"].get("hlo_op", event["name"])].append(event)
    intervals = []
    for name, calls in by_name.items():
        calls.sort(key=lambda event: event["ts"])
        marks, position = sorted(ends.get(name, ())), 0
        for i, event in enumerate(calls):
            end = event["ts"] + event.get("dur", 0.0)
            following = calls[i + 1]["ts"] if i + 1 < len(calls) else float("inf")
            while position < len(marks) and marks[position] < event["ts"]:
                position += 1
            if position < len(marks) and marks[position] <= following:
                end = max(end, marks[position])
            intervals.append(Interval(name, event["ts"], end))
    return intervals
