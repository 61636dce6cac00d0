# SPDX-License-Identifier: Apache-2.0
"""The numbers of a run as they come: `metrics.jsonl`, which is the record, and TensorBoard, which shows it.

A line of `metrics.jsonl` is one JSON object, `{"step": 100, "split": "train", "loss": 0.25, ...}`. Strict JSON knows
no NaN, so numbers that are not finite stand there as the strings "NaN", "Infinity" and "-Infinity" (as in
Protocol Buffers' JSON mapping), and `read_metrics` gives the numbers back.

TensorBoard's event files are framed here and not by tensorboardX's SummaryWriter: that writes from a thread of its
own which a full disk ends, whereupon the training loop waits for it for ever; and two writers opened within one
second share a file name, so that a quick resume would wipe the events before it.
"""

import io
import json
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, SupportsFloat, TypeGuard

from cnnjax.errors import RunError
from cnnjax.jsonfile import loads
from cnnjax.report.environment import cannot_write, to_plain, write_atomic

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
NOT_FINITE = {text: float(text) for text in ("NaN", "Infinity", "-Infinity")}


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The records of a run in the order written; a last line cut short by a crash is left out.

    Returns:
      Dicts of `step` (int), `split` ("train", "validation" or "test") and the metrics written.

    Raises:
      RunError: there is no log in `workdir`, it cannot be read, or a line before the last is damaged.
    """
    path = workdir / METRICS_FILE
    records = _read(path)
    if records is None:
        raise RunError(f"{path} is not there; train this run first, or give the --workdir of one")
    return records


def _read(path: Path) -> list[dict[str, Any]] | None:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = loads(line)
        except ValueError:
            record = None
        if not _is_record(record):
            if number == len(lines):
                break
            raise RunError(f"{path}, line {number}: not a record of this log; remove that line")
        records.append({k: NOT_FINITE[v] if isinstance(v, str) and k != "split" else v for k, v in record.items()})
    return records


def _is_record(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether it is {"step": whole number, "split": text} with numbers, or the words for those that are not finite."""
    if not isinstance(value, dict) or not isinstance(value.get("split"), str):
        return False
    if not isinstance(value.get("step"), int) or isinstance(value["step"], bool) or value["step"] < 0:
        return False
    metrics = (item for key, item in value.items() if key != "split")
    return all(isinstance(item, int | float) or (isinstance(item, str) and item in NOT_FINITE) for item in metrics)


class RunLog:
    """Appends a run's metrics to its workdir: one system call a record, so `kill -9` costs the last one at most.

    with RunLog(workdir) as log:
        log.write(100, "train", {"loss": 0.25, "learning_rate": 0.1})
    """

    def __init__(self, workdir: Path, *, resume_step: int | None = None) -> None:
        """Opens the log of a new run or, with `resume_step`, of one that goes on from there.

        Args:
          workdir: the run's folder; made when it is not there.
          resume_step: records of later steps, which will be written again, are dropped from metrics.jsonl and
            hidden in TensorBoard. None: a new run, and all earlier records go.

        Raises:
          RunError: the log cannot be written, or the old one is damaged.
        """
        self._first_step = 0 if resume_step is None else resume_step + 1
        self._folder = workdir / TENSORBOARD_FOLDER
        self._events: io.FileIO | None = None
        path = workdir / METRICS_FILE
        old = [] if resume_step is None else _read(path) or []
        kept = [record for record in old if record["step"] < self._first_step]
        self._held = {(record["step"], record["split"]) for record in kept}
        write_atomic(path, b"".join(map(_line, kept)))
        self._metrics = _append_to(path)

    def write(self, step: int, split: str, metrics: Mapping[str, SupportsFloat]) -> None:
        """Appends one record; in TensorBoard each metric is the scalar `split/name`.

        Args:
          step: optimizer steps taken.
          split: "train", "validation" or "test".
          metrics: numbers by name; NumPy and JAX scalars will do.

        Raises:
          RunError: the disk is full or the file cannot be written.
        """
        numbers = {name: value if isinstance(value, int) else float(value) for name, value in metrics.items()}
        _write(self._metrics, _line({"step": int(step), "split": split, **numbers}))
        self._held.add((int(step), split))
        if self._events is None:
            self._events = self._open_events()
        _write(self._events, _scalars(int(step), {f"{split}/{name}": value for name, value in numbers.items()}))

    def holds(self, step: int, split: str) -> bool:
        """Whether there is a record of `step` and `split`."""
        return (step, split) in self._held

    def close(self) -> None:
        """Closes the files; safe to call twice."""
        self._metrics.close()
        if self._events is not None:
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open_events(self) -> io.FileIO:
        # TensorBoard reads the files of a folder in the order of their names: the time comes first, to the nanosecond,
        # and where the clock was set back since the last one, it goes on from there.
        now = max(time.time_ns(), _newest(self._folder) + 1)
        name = f"events.out.tfevents.{now // 10**9}.{now % 10**9:09d}.{socket.gethostname()}.{os.getpid()}"
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path.parent, error) from error
        file = _append_to(path)
        _write(file, _session_start(self._first_step))
        return file


def _newest(folder: Path) -> int:
    """The time in the name of the last event file, in nanoseconds; 0 when there is none."""
    times = (path.name.split(".")[3:5] for path in folder.glob("events.out.tfevents.[0-9]*.[0-9]*"))
    return max((int(f"{seconds}{nanoseconds}") for seconds, nanoseconds in times), default=0)


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(to_plain(record), allow_nan=False) + "\n").encode()


def _append_to(path: Path) -> io.FileIO:
    try:
        return path.open("ab", buffering=0)
    except OSError as error:
        raise cannot_write(path, error) from error


def _write(file: io.FileIO, content: bytes) -> None:
    rest = memoryview(content)
    try:
        while rest:  # a disk that fills up takes a part first and refuses the rest
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise cannot_write(Path(os.fsdecode(file.name)), error) from error


def _session_start(first_step: int) -> bytes:
    """The head of an event file: TensorBoard hides what earlier files hold from `first_step` on."""
    # Imported in functions: tensorboardX takes up to a second, which who only reads a log need not wait for.
    from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

    now = time.time()
    version = Event(wall_time=now, file_version="brain.Event:2")
    start = Event(wall_time=now, step=first_step, session_log=SessionLog(status=SessionLog.START))
    return _frame(version.SerializeToString()) + _frame(start.SerializeToString())


def _scalars(step: int, values: Mapping[str, float]) -> bytes:
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

    scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    return _frame(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)).SerializeToString())


def _frame(data: bytes) -> bytes:
    """A TFRecord: length, its checksum, data, its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + checksums[0] + data + checksums[1]
