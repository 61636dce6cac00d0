# SPDX-License-Identifier: Apache-2.0
"""The run from its first to its last step: when to log, evaluate, save and stop."""

import contextlib
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import jax
import numpy as np
import optax
from tqdm import tqdm

from cnnjax.checkpoint import Checkpoints
from cnnjax.errors import RunError
from cnnjax.metrics import means
from cnnjax.step import Dispatch
from cnnjax.types import Array, PyTree, Stream, TrainState


class Plan(NamedTuple):
    """When what happens, in steps."""

    num_steps: int
    steps_per_epoch: float
    log_every: int
    evaluate_at: frozenset[int]
    save_at: frozenset[int]

    def epoch(self, step: int) -> float:
        """Passes over the training set after `step` steps."""
        return step / self.steps_per_epoch

    def events(self) -> list[int]:
        """The steps at which the host has something to do, ascending; the last one is the end."""
        logs = range(self.log_every, self.num_steps, self.log_every)
        return sorted({*logs, *self.evaluate_at, *self.save_at, self.num_steps})


class Log(Protocol):
    """Where a run writes its numbers."""

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Keeps one record."""
        ...


class Stop(Exception):
    """The run was asked to end before its last step; everything is saved up to `step`."""

    def __init__(self, step: int, signal_name: str):
        super().__init__(f"{signal_name} at step {step}")
        self.step = step
        self.signal_name = signal_name


class StopSignals:
    """While entered, the first SIGINT or SIGTERM only asks the run to stop; a second SIGINT ends it at once."""

    def __init__(self) -> None:
        self.received: str | None = None

    def __enter__(self) -> "StopSignals":
        self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name


def fit(
    state: TrainState,
    dispatch: Dispatch,
    stream: Stream,
    plan: Plan,
    *,
    steps_per_dispatch: int,
    schedule: optax.Schedule,
    log: Log,
    evaluate: Callable[[TrainState], dict[str, float]],
    eval_split: str,
    keep_best: bool,
    checkpoints: Checkpoints,
) -> TrainState:
    """Trains from `state.step` to `plan.num_steps` and returns the last state, saved.

    The host reads the numbers of one call while the next one runs; it waits for the device only where the plan
    has something to log, evaluate or save.

    With `keep_best` the checkpoint with the highest accuracy (where there is none: the lowest loss) is kept.

    Raises:
      RunError: a loss, metric or gradient that is not finite; nothing is saved after it.
      Stop: SIGINT or SIGTERM came; the state was saved first.
    """
    step = int(state.step)
    events = [event for event in plan.events() if event > step]
    if not events:
        return state
    window = _Window(stream.batch_size, compile_dispatch(dispatch, state, stream, steps_per_dispatch))
    bar = tqdm(total=plan.num_steps, initial=step, unit="step", disable=None, dynamic_ncols=True, smoothing=0.1)
    with StopSignals() as stop, bar:
        running: list[tuple[int, int, PyTree]] = []  # calls whose numbers are not read yet: first step, steps, rows
        for event in events:
            while step < event:
                count = min(event - step, steps_per_dispatch)
                state, rows = dispatch(
                    state, stream.arrays, *_arguments(state, stream, step, count, steps_per_dispatch)
                )
                running.append((step, count, rows))
                if len(running) > 1:
                    window.add(*running.pop(0), bar, checkpoints)
                step += count
                if stop.received:
                    break
            while running:
                window.add(*running.pop(0), bar, checkpoints)
            if step % plan.log_every == 0 or step == plan.num_steps:
                learning_rate = np.asarray(schedule(step - 1)).item()
                log.write(step, "train", {"epoch": plan.epoch(step), **window.take(), "learning_rate": learning_rate})
            score = None
            with window.paused():
                if step in plan.evaluate_at:
                    metrics = _evaluate(evaluate, state, checkpoints)
                    score = metrics.get("accuracy", -metrics["loss"]) if keep_best else None
                    log.write(step, eval_split, {"epoch": plan.epoch(step), **metrics})
                    shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
                    tqdm.write(f"step {step}  epoch {plan.epoch(step):.1f}  {eval_split}: {shown}", file=sys.stderr)
                if step in plan.save_at or step == plan.num_steps or stop.received:
                    checkpoints.save(step, state, score)
            if stop.received and step < plan.num_steps:
                checkpoints.wait()
                raise Stop(step, stop.received)
    checkpoints.wait()
    return state


def compile_dispatch(dispatch: Dispatch, state: TrainState, stream: Stream, steps_per_dispatch: int) -> float:
    """Compiles the calls that `fit` makes, before the first; returns the seconds that it took."""
    start = time.perf_counter()
    arguments = _arguments(state, stream, 0, steps_per_dispatch, steps_per_dispatch)
    dispatch.lower(state, stream.arrays, *arguments).compile()
    return time.perf_counter() - start


def _arguments(state: TrainState, stream: Stream, step: int, count: int, length: int) -> tuple[PyTree, Array]:
    """(items, count) of a call, on their way to the device: it does not wait for them, nor the host for it."""
    items = _padded(stream.items(step, count), length)
    return jax.device_put((items, np.int32(count)), state.step.sharding)


def _padded(items: PyTree, length: int) -> PyTree:
    """Leading axes lengthened to `length`, so that every call has the same shapes."""
    return jax.tree.map(lambda x: np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)]), items)


class _Window:
    """The steps since the last record: their sums, and the seconds that training took."""

    def __init__(self, batch_size: int, compile_seconds: float):
        self._batch_size = batch_size
        self._rows: list[dict[str, tuple[float, float]]] = []
        self._since = time.perf_counter()
        self._compiling = {"compile_seconds": compile_seconds}

    def add(self, step: int, count: int, rows: PyTree, bar: tqdm, checkpoints: Checkpoints) -> None:
        """Reads the numbers of the `count` steps after `step`, which waits for the device."""
        rows = jax.device_get(rows)
        for i in range(count):
            row = {name: (float(total[i]), float(number[i])) for name, (total, number) in rows.items()}
            for name, (total, _) in row.items():
                if not math.isfinite(total):
                    raise RunError(f"{name} is {total} at step {step + i + 1}; {_remedy(checkpoints)}")
            self._rows.append(row)
        bar.set_postfix(loss=f"{means(self._rows[-20:])['loss']:.4f}", refresh=False)
        bar.update(count)

    def take(self) -> dict[str, float]:
        """The means since the last call, `images_per_second` and `seconds`, compilation apart; starts anew."""
        now = time.perf_counter()
        seconds = now - self._since
        rate = len(self._rows) * self._batch_size / seconds
        record = {**means(self._rows), "images_per_second": rate, "seconds": seconds, **self._compiling}
        self._rows, self._since, self._compiling = [], now, {}
        return record

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What runs inside is not counted as training time."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start


def _evaluate(
    evaluate: Callable[[TrainState], dict[str, float]], state: TrainState, checkpoints: Checkpoints
) -> dict[str, float]:
    try:
        return evaluate(state)
    except RunError as error:
        raise RunError(f"at step {int(state.step)} {error}; {_remedy(checkpoints)}") from error


def _remedy(checkpoints: Checkpoints) -> str:
    """For a number that left the floats: what is safe, what helps."""
    checkpoints.wait()
    last = checkpoints.latest()
    safe = f"the last good checkpoint is step {last} in {checkpoints.directory}" if last else "no checkpoint was saved"
    return f"{safe}; try a lower config.optimizer.learning_rate, a warm-up, or config.optimizer.clip_norm"
