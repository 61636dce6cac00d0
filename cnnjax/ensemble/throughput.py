# SPDX-License-Identifier: Apache-2.0
"""Training throughput of several networks in one step, against the same networks one after the other."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax

from cnnjax.ensemble.configs import member_configs
from cnnjax.ensemble.together import WAYS, build_together, choose_way
from cnnjax.parts import build
from cnnjax.train import call_arguments
from cnnjax.types import Config, Stream, TrainState

SEPARATE = "separate"


def measure(config: Config, ways: Sequence[str] = WAYS, *, rounds: int = 5, seconds: float = 1.0) -> dict[str, Any]:
    """Times whole training steps, host work included, each way in turn in every round.

    Args:
      config: of the ensemble.
      ways: ways to put the networks into one program; "separate", each after the other, is always measured.
      rounds: how often each way is timed.
      seconds: least duration of one timing.

    Returns:
      A document for `write_json`: `model`, `members`, `batch_size`, `device`, `chosen` (what a run takes), `rounds`
      and `ways`: by name `images_per_second` (`median`, `min`, `max`; of all networks), `compile_seconds` (tracing
      and the first call included) and `ratio` of the median to the one of "separate".
    """
    configs = member_configs(config)
    parts = build(configs[0])
    training, steps = parts.training, parts.training.steps_per_dispatch
    sides = {SEPARATE: _Side(training.init(), training.dispatch, training.stream, steps, 1)}
    for way in ways:
        start = time.perf_counter()
        together = build_together(parts, configs, way)
        state = together.stack(together.init())
        sides[way] = _Side(state, together.dispatch, together.stream, steps, len(configs), start)
    for side in sides.values():
        side.calibrate(seconds)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            rates[name].append(side.images_per_second())
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "model": config.model.name,
        "members": len(configs),
        "batch_size": config.data.batch_size,
        "device": f"{parts.mesh.size} x {jax.devices()[0].device_kind}",
        "chosen": choose_way(parts),
        "rounds": rounds,
        "ways": {
            name: {
                "images_per_second": {"median": medians[name], "min": min(values), "max": max(values)},
                "compile_seconds": sides[name].compile_seconds,
                "ratio": medians[name] / medians[SEPARATE],
            }
            for name, values in rates.items()
        },
    }


class _Side:
    """One way to train: a state that goes on from timing to timing."""

    def __init__(self, state: TrainState, dispatch: Any, stream: Stream, steps: int, members: int, start: float = 0.0):
        self._state, self._dispatch, self._stream = state, dispatch, stream
        self._steps, self._members = steps, members
        self._step, self._calls = 0, 1
        start = start or time.perf_counter()
        self._timed()
        self.compile_seconds = time.perf_counter() - start

    def calibrate(self, seconds: float) -> None:
        """Sets how many calls one timing takes."""
        self._calls = max(1, round(seconds / self._timed()))

    def images_per_second(self) -> float:
        """Of all networks, over one timing."""
        images = self._calls * self._steps * self._stream.batch_size * self._members
        return images / self._timed()

    def _timed(self) -> float:
        start = time.perf_counter()
        rows: Any = None
        for _ in range(self._calls):
            arguments = call_arguments(self._state, self._stream, self._step, self._steps, self._steps)
            self._state, rows = self._dispatch(self._state, self._stream.arrays, *arguments)
            self._step += self._steps
        jax.block_until_ready((self._state, rows))
        return time.perf_counter() - start
