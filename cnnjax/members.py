# SPDX-License-Identifier: Apache-2.0
"""The networks that are trained together, and what becomes of the numbers of each; a run by itself is one of one."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import jax
import numpy as np
import optax
from tqdm import tqdm

from cnnjax import processes
from cnnjax.checkpoint import Checkpoints
from cnnjax.errors import Diverged
from cnnjax.metrics import means
from cnnjax.types import PyTree, TrainState

Sums = dict[str, tuple[float, float]]
"""(sum, count) by name, of one step."""


class Log(Protocol):
    """Where a run writes its numbers."""

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Keeps one record."""
        ...

    def holds(self, step: int, split: str) -> bool:
        """Whether there is a record of that step and split."""
        ...


class Member(NamedTuple):
    """One of the networks that are trained together, and where its numbers go; a run by itself is its only member.

    Attributes:
      name: what messages call it; "" of a run by itself.
      schedule: its learning rate by step.
      log: of its numbers.
      checkpoints: of its state.
      evaluate: the metrics of its own state.
      state: takes its own out of the state that is trained.
      rows: takes its own out of the sums of a call.
    """

    name: str
    schedule: optax.Schedule
    log: Log
    checkpoints: Checkpoints
    evaluate: Callable[[TrainState], dict[str, float]]
    state: Callable[[TrainState], TrainState] = lambda state: state
    rows: Callable[[PyTree], PyTree] = lambda rows: rows


class Clock:
    """The seconds that training takes: not its compilation, and not what is done in between."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def take(self) -> float:
        """The seconds since the last call; starts anew."""
        before, self._since = self._since, time.perf_counter()
        return self._since - before

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What runs inside is not counted as training time."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start


class Crew:
    """The members whose numbers are finite, and of each the sums since the last record."""

    def __init__(
        self,
        members: Sequence[Member],
        batch_size: int,
        diverged: Callable[[Member, Diverged], None],
        epoch: Callable[[int], float],
        eval_split: str,
        step: int,
    ):
        self.members = list(members)
        self.clock = Clock()
        self._compiling: dict[str, float] = {}
        self._waiting: float | None = None  # seconds since the last record; None: the data are on the device
        self._data_wait = ""
        self._batch_size = batch_size
        self._diverged = diverged
        self._epoch, self._eval_split = epoch, eval_split
        # A run that goes on takes up the sums where it was stopped, so that its next record is the same.
        self._sums: dict[str, list[Sums]] = {m.name: m.checkpoints.unlogged(step) if step else [] for m in members}
        self._logged_at = step

    def begin(self, compile_seconds: float) -> None:
        """Starts the clock."""
        self.clock = Clock()
        self._compiling = {"compile_seconds": compile_seconds}

    def read(self, step: int, count: int, rows: PyTree, bar: tqdm) -> None:
        """Reads the numbers of the `count` steps after `step`, which waits for the device."""
        rows = jax.device_get(rows)
        for member in list(self.members):
            try:
                self._sums[member.name] += _finite(member.rows(rows), step, count)
            except Diverged as error:
                self._drop(member, error)
        recent = [means(self._sums[member.name][-20:])["loss"] for member in self.members]
        bar.set_postfix(loss=f"{np.mean(recent):.4f}", refresh=False)
        bar.update(count)

    def wait_for_data(self, seconds: float, *, idle: bool) -> None:
        """Adds what the host waited for the next pictures, if the device was `idle` when they came."""
        self._waiting = (self._waiting or 0.0) + seconds * idle

    def log(self, step: int) -> None:
        """Writes each one's means since the last record, its images a second, and the seconds that all took.

        Of a streamed set also `data_wait`, the share of these seconds in which the device had nothing to do for want of
        pictures; it is an upper bound, because the device may have become idle while the host waited.
        """
        seconds = self.clock.take()
        waiting = {} if self._waiting is None else {"data_wait": min(1.0, self._waiting / seconds)}
        self._data_wait = f"  waited for data {waiting['data_wait']:.0%} of the time" if waiting else ""
        self._waiting = self._waiting and 0.0
        for member in self.members:
            sums = self._sums[member.name]
            rate = (step - self._logged_at) * self._batch_size / seconds
            times = {"images_per_second": rate, "seconds": seconds, **waiting, **self._compiling}
            learning_rate = np.asarray(member.schedule(step - 1)).item()
            numbers = {"epoch": self._epoch(step), **means(sums), **times, "learning_rate": learning_rate}
            member.log.write(step, "train", numbers)
            self._sums[member.name] = []
        self._compiling, self._logged_at = {}, step

    def has_evaluated(self, step: int) -> bool:
        """Whether the evaluation of `step`, which each made before, is recorded."""
        return all(member.log.holds(step, self._eval_split) for member in self.members)

    def measure(self, step: int, state: TrainState) -> dict[str, dict[str, float]]:
        """The metrics of each by name."""
        told: dict[str, dict[str, float]] = {}
        for member in list(self.members):
            try:
                told[member.name] = member.evaluate(member.state(state))
            except Diverged as error:
                self._drop(member, Diverged(f"at step {step} {error}"))
        return told

    def evaluated(self, step: int, told: Mapping[str, dict[str, float]]) -> dict[str, float]:
        """Records what was measured; the score of each by name, more is better."""
        epoch = self._epoch(step)
        for member in self.members:
            member.log.write(step, self._eval_split, {"epoch": epoch, **told[member.name]})
        rows = list(told.values())
        shown = "  ".join(f"{name} {_range([row[name] for row in rows])}" for name in rows[0])
        if processes.is_first():
            data_wait = self._data_wait
            tqdm.write(f"step {step}  epoch {epoch:.1f}  {self._eval_split}: {shown}{data_wait}", file=sys.stderr)
        return {name: metrics.get("accuracy", -metrics["loss"]) for name, metrics in told.items()}

    def save(self, step: int, state: TrainState, scores: Mapping[str, float], *, again: bool = False) -> None:
        """Starts to save each, with its score; one that is saved already stays as it is, unless `again`."""
        for member in self.members:
            unlogged = self._sums[member.name]
            member.checkpoints.save(step, member.state(state), scores.get(member.name), unlogged=unlogged, again=again)

    def wait(self) -> None:
        """Returns when everything is saved."""
        for member in self.members:
            member.checkpoints.wait()

    def _drop(self, member: Member, error: Diverged) -> None:
        named = Diverged(f"{member.name}: " * bool(member.name) + f"{error}; {_remedy(member.checkpoints)}")
        self.members.remove(member)
        self._diverged(member, named)
        if not self.members:
            raise named


def _finite(rows: PyTree, step: int, count: int) -> list[Sums]:
    """(sum, count) by name of each of the steps after `step`."""
    read = []
    for i in range(count):
        row = {name: (float(total[i]), float(number[i])) for name, (total, number) in rows.items()}
        for name, (total, _) in row.items():
            if not math.isfinite(total):
                raise Diverged(f"{name} is {total} at step {step + i + 1}")
        read.append(row)
    return read


def _range(values: Sequence[float]) -> str:
    """A value; of several the mean, and from where to where they lie."""
    mean = f"{np.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f} to {max(values):.4f})"


def _remedy(checkpoints: Checkpoints) -> str:
    """For a number that left the floats: what is safe, what helps."""
    checkpoints.wait()
    last = checkpoints.latest()
    safe = f"the last good checkpoint is step {last} in {checkpoints.directory}" if last else "no checkpoint was saved"
    return f"{safe}; try a lower config.optimizer.learning_rate, a warm-up, or config.optimizer.clip_norm"
