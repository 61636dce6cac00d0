# SPDX-License-Identifier: Apache-2.0
"""Timing by turns: every side runs a few steps, round after round, so that a slow minute slows all of them."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

ENOUGH_SECONDS = 1.0  # that a turn lasts, when the number of steps is not given
MAX_STEPS = 1000


class Spread(NamedTuple):
    """Repeated measurements of one thing."""

    median: float
    min: float
    max: float


class Split(NamedTuple):
    """Where the time of one step goes when nothing overlaps; seconds.

    Attributes:
      data: the host makes the step's rows, numbers or pixels.
      host: calling the compiled step and reading its numbers.
      compute: waiting for the device.
      prepare: what of `compute` turns stored pixels into the network's input: gathering, augmentation, normalisation.
    """

    data: float
    host: float
    compute: float
    prepare: float


class Side(NamedTuple):
    """Something to be timed.

    Attributes:
      name: what to call it.
      batch_size: images a step.
      run: `run(steps)` takes at least that many steps, waits for the last one and returns how many it took.
      compile_seconds: what the first step needed beside its own time.
      split: `split(steps)` -> median Split of that many steps; None: not known.
      temp_bytes: memory that the compiled step needs for itself, and arg_bytes for what it is given; None: not known.
      cached: whether the compiled program came from the compilation cache; None: not known.
    """

    name: str
    batch_size: int
    run: Callable[[int], int]
    compile_seconds: float
    split: Callable[[int], Split] | None = None
    temp_bytes: int | None = None
    argument_bytes: int | None = None
    cached: bool | None = None


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest of one or more values."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times `theirs` goes into `ours`: the ratio of the medians, between the extremes of single rounds."""
    by_round = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Spread(statistics.median(ours) / statistics.median(theirs), min(by_round), max(by_round))


def interleave(
    sides: Sequence[Side], *, rounds: int, warmup: int, steps: int | None = None
) -> Mapping[str, list[float]]:
    """Images a second of each side, by name: one number a round.

    Args:
      sides: with different names.
      rounds: 1 or more; in each every side has its turn, in the order given, then backwards, and so on.
      warmup: steps of each side that are not counted, 1 or more; the last of them tells how long a step takes.
      steps: of a turn; None: as many as fill ENOUGH_SECONDS.
    """
    counts = {side.name: steps or _enough(side, warmup) for side in sides}
    if steps:
        for side in sides:
            side.run(warmup)
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(rounds):
        for side in sides if turn % 2 == 0 else reversed(sides):
            rates[side.name].append(rate(side, counts[side.name]))
    return rates


def rate(side: Side, steps: int) -> float:
    """Images a second over `steps` steps."""
    start = time.perf_counter()
    taken = side.run(steps)
    return taken * side.batch_size / (time.perf_counter() - start)


def _enough(side: Side, warmup: int) -> int:
    """Warms up; the steps that fill a turn."""
    if warmup > 1:
        side.run(warmup - 1)
    seconds = side.batch_size / rate(side, 1)
    return max(1, min(MAX_STEPS, math.ceil(ENOUGH_SECONDS / seconds)))
