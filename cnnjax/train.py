# SPDX-License-Identifier: Apache-2.0
"""The run from its first to its last step: when to log, evaluate, save and stop."""

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from cnnjax import devices, processes, read_ahead
from cnnjax.errors import Diverged
from cnnjax.host_memory import StepMemory, compiling
from cnnjax.members import Crew, Member
from cnnjax.memory import check_step
from cnnjax.step import Dispatch
from cnnjax.stopping import Stop, StopSignals
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


def fit(
    state: TrainState,
    dispatch: Dispatch,
    stream: Stream,
    plan: Plan,
    members: Sequence[Member],
    *,
    steps_per_dispatch: int,
    eval_split: str,
    keep_best: bool,
    diverged: Callable[[Member, Diverged], None] = lambda member, error: None,
    later: Sequence[tuple[int, Dispatch]] = (),
) -> TrainState:
    """Trains from the step of `state` to `plan.num_steps` and returns the last state, saved.

    The host reads the numbers of one call while the next one runs; it waits for the device only where the plan
    has something to log, evaluate or save (and on a CPU after each call that needs much memory: `StepMemory`).

    The programs of `later` take over from `dispatch`, each after so many steps of the run, ascending.

    With `keep_best` the checkpoint with the highest accuracy (where there is none: the lowest loss) is kept.

    A signal during an evaluation cuts it short; the run that goes on makes up for it first.

    Of several members one whose numbers are no longer finite is told to `diverged` and left out; the others go on.

    Raises:
      Diverged: the last member has a loss, metric or gradient that is not finite; nothing is saved after it.
      Stop: SIGINT or SIGTERM came; the state was saved first.
      TooLarge: a step needs more memory than is free; none was taken.
    """
    step = int(members[0].state(state).step)
    crew = Crew(members, stream.batch_size, diverged, plan.epoch, eval_split, step)
    if step in plan.evaluate_at and not crew.has_evaluated(step):
        scores = crew.evaluated(step, crew.measure(step, state))
        crew.save(step, state, scores if keep_best else {}, again=True)
    events = sorted(event for event in {*plan.events(), *(first for first, _ in later)} if event > step)
    if not events:
        crew.wait()
        return state
    dispatch = _program(dispatch, later, step)
    seconds, memory = compile_dispatch(dispatch, state, stream, steps_per_dispatch)
    crew.begin(seconds)
    shown = None if processes.is_first() else True  # None: where there is a terminal
    bar = tqdm(total=plan.num_steps, initial=step, unit="step", disable=shown, dynamic_ncols=True, smoothing=0.1)
    with StopSignals() as stop, bar, contextlib.ExitStack() as at_end:
        at_end.callback(stream.close)
        running: list[tuple[int, int, PyTree]] = []  # calls whose numbers are not read yet: first step, steps, rows
        for event in events:
            if (program := _program(dispatch, later, step)) is not dispatch:
                dispatch = program
                with crew.clock.paused():
                    _, memory = compile_dispatch(dispatch, state, stream, steps_per_dispatch)
            while step < event:
                count = min(event - step, steps_per_dispatch)
                arguments = call_arguments(state, stream, step, count, steps_per_dispatch)
                if stream.waited is not None:
                    crew.wait_for_data(stream.waited(), idle=not running or _finished(running[-1][2]))
                state, rows = dispatch(state, stream.arrays, *arguments)
                running.append((step, count, rows))
                if len(running) > memory.calls_ahead:
                    crew.read(*running.pop(0), bar)
                    memory.called()
                step += count
                if stop.check():
                    break
            while running:
                crew.read(*running.pop(0), bar)
            if step % plan.log_every == 0 or step == plan.num_steps:
                crew.log(step)
            with crew.clock.paused():
                measure = partial(crew.measure, step, state)
                told = stop.unless_asked(measure) if step in plan.evaluate_at else None
                scores = crew.evaluated(step, told) if told else {}
                if step in plan.save_at or step == plan.num_steps:
                    crew.save(step, state, scores if keep_best else {})
            if stop.received:
                crew.save(step, state, scores if keep_best else {})  # does nothing where it has just been done
                break
        crew.wait()
        if stop.received:
            raise Stop(step, stop.received)
    return state


def _program(dispatch: Dispatch, later: Sequence[tuple[int, Dispatch]], step: int) -> Dispatch:
    """The program that goes on from `step`."""
    return [dispatch, *(each for first, each in later if first <= step)][-1]


def compile_dispatch(
    dispatch: Dispatch, state: TrainState, stream: Stream, steps_per_dispatch: int
) -> tuple[float, StepMemory]:
    """Compiles the calls that `fit` makes, before the first; returns the seconds that it took, and their memory.

    Raises:
      TooLarge: they need more memory than is free.
    """
    start = time.perf_counter()
    arguments = blank_arguments(state, stream, steps_per_dispatch)
    with compiling():
        compiled = dispatch.lower(state, stream.arrays, *arguments).compile()
    read_ahead.end()
    analysis = compiled.memory_analysis()
    check_step(analysis, (state, stream.arrays))
    return time.perf_counter() - start, StepMemory(analysis)


def blank_arguments(state: TrainState, stream: Stream, length: int) -> tuple[PyTree, Array]:
    """(items, count) as a call takes them, to trace or compile it; `state` may be abstract."""
    return _placed(stream.blank(length), length, state, stream)


def call_arguments(state: TrainState, stream: Stream, step: int, count: int, length: int) -> tuple[PyTree, Array]:
    """(items, count) of a call, on their way to the device: it does not wait for them, nor the host for it."""
    return _placed(_padded(stream.items(step, count), length), count, state, stream)


def _placed(items: PyTree, count: int, state: TrainState, stream: Stream) -> tuple[PyTree, Array]:
    placed: Any = jax.tree.leaves(state)[0].sharding
    if not stream.local:
        return devices.place_replicated((items, np.int32(count)), placed.mesh)
    return devices.place_rows(items, placed.mesh, axis=1), devices.place_replicated(np.int32(count), placed.mesh)


def _padded(items: PyTree, length: int) -> PyTree:
    """Leading axes lengthened to `length`, so that every call has the same shapes."""

    def padded(x: np.ndarray) -> np.ndarray:
        return x if len(x) == length else np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)])

    return jax.tree.map(padded, items)


def _finished(rows: PyTree) -> bool:
    """Whether the device is done with the call that gives `rows`."""
    return all(x.is_ready() for x in jax.tree.leaves(rows))
