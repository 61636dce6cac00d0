# SPDX-License-Identifier: Apache-2.0
"""Where the time of a run went, from the clock in its event files."""

import struct
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.report.log import TENSORBOARD_FOLDER


class Times(NamedTuple):
    """Seconds by the wall clock, over all sessions of a run; pauses between sessions are left out.

    Attributes:
      starting: from the start to the first record, less the training steps in it: data, compilation, first steps.
      training: the training steps.
      other: the rest: evaluation, checkpoints, waiting.
    """

    starting: float
    training: float
    other: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def measure(workdir: Path, records: Sequence[dict[str, Any]], batch_size: int, start_time: object) -> Times | None:
    """The Times of a run; None before its first record.

    Args:
      workdir: of the run.
      records: as `read_metrics` gives them.
      batch_size: images a step.
      start_time: of the last session, ISO 8601; of earlier ones, as without it, the first record is the start.
    """
    sessions = read_sessions(workdir)
    if not sessions:
        return None
    trained, previous = {}, 0  # seconds of training by the step of the record
    for record in records:
        if record["split"] == "train":
            rate = record.get("images_per_second")
            trained[record["step"]] = (record["step"] - previous) * batch_size / rate if rate else 0.0
            previous = record["step"]
    start = _timestamp(start_time)
    starting = training = total = 0.0
    for session in sessions:
        (first, step), last = session[0], session[-1][0]
        began = start if start is not None and session is sessions[-1] and start < first else first
        before = min(trained.get(step, 0.0), first - began)
        starting += first - began - before
        training += before + sum(trained.get(s, 0.0) for s in {s for _, s in session} - {step})
        total += last - began
    training = min(training, total - starting)
    return Times(starting, training, total - starting - training)


def _timestamp(text: object) -> float | None:
    """Seconds since 1970; None where it is no time."""
    try:
        return datetime.fromisoformat(str(text)).timestamp() if text else None
    except (ValueError, OverflowError):
        return None


def read_sessions(workdir: Path) -> list[list[tuple[float, int]]]:
    """(time in seconds since 1970, step) of each record, by session, in order; sessions without records left out."""
    sessions = []
    for path in sorted((workdir / TENSORBOARD_FOLDER).glob("events.out.tfevents.*")):
        events = [event for event in _events(path.read_bytes()) if event[1]]
        if events:
            sessions.append(events)
    return sessions


def _events(content: bytes) -> list[tuple[float, int]]:
    # Imported here: tensorboardX takes up to a second.
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    found, place = [], 0
    while place + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        data = content[place + 12 : place + 12 + length]  # behind the length and its checksum
        if len(data) < length:  # cut short by a crash
            break
        try:
            event = Event.FromString(data)
        except DecodeError:
            break
        found.append((event.wall_time, event.step if event.HasField("summary") else 0))
        place += 16 + length
    return found
