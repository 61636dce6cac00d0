# SPDX-License-Identifier: Apache-2.0
"""The batch size with the highest throughput: doubled until it no longer pays, or no longer fits."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from cnnjax import memory
from cnnjax.bench.measure import Side, rate
from cnnjax.errors import CnnjaxError, RunError
from cnnjax.types import Config

PAYS = 1.02  # times the best rate so far
PATIENCE = 2  # sizes in a row that may fail to pay
STEPS = 3
NO_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "OutOfMemory")


class Trial(NamedTuple):
    """A batch size and what came of it: images a second, or why there are none."""

    batch_size: int
    images_per_second: float | None
    reason: str = ""


def with_batch_size(config: Config, batch_size: int) -> Config:
    """A copy of `config` with another batch size."""
    copy: Config = ConfigDict(config.to_dict())
    copy.data.batch_size = batch_size
    return copy.lock()


def find_best(config: Config, make: Callable[[Config], Side], *, largest: int | None = None) -> list[Trial]:
    """Tries a quarter of the config's batch size, and twice as much each time; the best is `best(trials)`.

    Args:
      config: of the experiment.
      make: compiles the steps of a config.
      largest: batch size that is tried; None: as far as it pays and memory lasts.

    Raises:
      RunError: not even the first size works.
    """
    size, worse, trials = max(1, config.data.batch_size // 4), 0, []
    while worse < PATIENCE and (largest is None or size <= largest):
        top = max((trial.images_per_second or 0.0 for trial in trials), default=0.0)
        try:
            side = make(with_batch_size(config, size))
            available = _available_bytes()
            side.run(1)
            trial = Trial(size, rate(side, STEPS))
        except CnnjaxError as error:  # as a batch larger than the set
            trials.append(Trial(size, None, str(error)))
            break
        except Exception as error:
            if not any(words in f"{type(error).__name__}: {error}" for words in NO_MEMORY):
                raise
            trials.append(Trial(size, None, "out of memory"))
            break
        trials.append(trial)
        worse = 0 if (trial.images_per_second or 0.0) > PAYS * top else worse + 1
        if available is not None and side.temp_bytes and 2 * side.temp_bytes > available:
            trials.append(Trial(2 * size, None, "memory would not suffice"))
            break
        size *= 2
    if not any(trial.images_per_second for trial in trials):
        raise RunError(f"no batch size works: {trials[0].reason}" if trials else "no batch size was tried")
    return trials


def best(trials: list[Trial]) -> int:
    """The batch size with the highest rate."""
    return max(trials, key=lambda trial: trial.images_per_second or 0.0).batch_size


def _available_bytes() -> int | None:
    """Memory that a CPU's step may still take; None on accelerators, which raise when it is spent."""
    return memory.free_bytes() if jax.default_backend() == "cpu" else None
