# SPDX-License-Identifier: Apache-2.0
"""The three guarantees of a run, tried in fresh processes: the same seed, killed and resumed, one device and many."""

import json
import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from cnnjax.report.environment import write_json
from cnnjax.types import Config
from cnnjax.verify.compare import Outcome, first_difference, largest_difference, numbers_apart, outcome
from cnnjax.verify.session import Session, checkpoints
from cnnjax.workdir import ENVIRONMENT_FILE

logger = logging.getLogger(__name__)

TOLERANCE = 1e-2
"""Of one device against many: the relative distance of the first step's loss and norm of the gradient, and of the loss
of the network after it. Deep networks with BatchNorm magnify the rounding with each further step (docs/faults.md)."""


class Finding(NamedTuple):
    """What came of one guarantee.

    Attributes:
      guarantee: what is claimed.
      tried: how.
      holds: whether it does; None: it could not be tried.
      difference: the largest distance of two values of an array, in units of its largest, or of two logged numbers;
        None: none was looked for.
      seconds: that the proof took.
      told: what is to be said of it besides.
    """

    guarantee: str
    tried: str
    holds: bool | None
    difference: float | None
    seconds: float
    told: str = ""


class Prover:
    """Runs one config again and again in folders below `workdir`."""

    def __init__(self, config: Config, workdir: Path, *, steps: int, every: int):
        self._config, self._workdir, self._steps, self._every = config, workdir, steps, every
        self._file = workdir / "config.json"
        write_json(self._file, json.loads(config.to_json()))
        logger.info("a first run of %d steps", steps)
        begun = time.perf_counter()
        self._first = self._run("first")
        self._seconds = time.perf_counter() - begun
        devices = json.loads((workdir / "first" / ENVIRONMENT_FILE).read_text())["devices"]
        self.backend, self.devices = str(devices[0]["platform"]), sum(device["count"] for device in devices)

    def same_seed(self) -> Finding:
        """Another run of the same config ends with the same bits."""
        logger.info("the same once more")
        begun = time.perf_counter()
        second = self._run("second")
        seconds = self._seconds + time.perf_counter() - begun
        return self._bits("the same seed twice: the same bits", f"2 runs of {self._steps} steps", second, seconds)

    def killed(self, kills: int) -> Finding:
        """A run that is killed again and again, within writing a checkpoint and between two, ends with the same bits.

        The steps are drawn at random; the same in each proof.
        """
        guarantee = "killed and resumed: the same bits"
        begun, draw = time.perf_counter(), random.Random(self._config.seed)
        saves = [*range(self._every, self._steps, self._every), self._steps]
        pause = self._seconds / 10 / len(saves)
        done = within = 0
        targets = sorted(draw.choices(saves, k=kills))
        workdir = self._workdir / "killed"
        for i, step in enumerate(targets):
            in_write = i % 2 == 0 or step == self._steps  # after the last save there is little left to be killed in
            delay = draw.uniform(0, 0.01 if in_write else pause)
            if self._session(workdir).kill_at(step, within=in_write, delay=delay):
                done, within = done + 1, within + bool(checkpoints(workdir)[0])
                logger.info("killed at step %d (%d of %d)", step, done, kills)
            else:
                break
        self._session(workdir).finish()
        tried = f"kill -9 at {done} random moments, {within} of them within a checkpoint"
        seconds = time.perf_counter() - begun
        if not done:
            return Finding(guarantee, "not tried: each run came to its end before it was killed", None, None, seconds)
        return self._bits(guarantee, tried, outcome(workdir), seconds)

    def one_device_and_many(self, count: int) -> Finding:
        """One device and many end with the same numbers, but for rounding: sums are added up in another order."""
        guarantee = "one device and many: the same but for rounding"
        begun = time.perf_counter()
        if self.backend != "cpu" and self.devices == 1:
            return Finding(guarantee, f"not tried: there is one {self.backend} here", None, None, 0.0)
        batch = self._config.data.batch_size
        many = self.devices if self.backend != "cpu" else next(n for n in range(count, 0, -1) if batch % n == 0)
        if many == 1:
            return Finding(guarantee, f"not tried: a batch of {batch} does not divide", None, None, 0.0)
        logger.info("one device and %d", many)
        one = self._run("one device", only_one(self.backend), steps=1)
        others = self._run("many devices", {"JAX_NUM_CPU_DEVICES": str(many)}, steps=1)
        apart = numbers_apart(one, others)
        tried = f"1 and {many} {self.backend} devices, the first step"
        return Finding(guarantee, tried, apart <= TOLERANCE, apart, time.perf_counter() - begun)

    def _bits(self, guarantee: str, tried: str, other: Outcome, seconds: float) -> Finding:
        name = first_difference(self._first, other)
        apart = largest_difference(self._first, other)
        return Finding(guarantee, tried, name is None, apart, seconds, f"{name} differs" if name else "")

    def _run(self, name: str, variables: Mapping[str, str] | None = None, steps: int | None = None) -> Outcome:
        workdir = self._workdir / name.replace(" ", "_")
        self._session(workdir, variables, steps).finish()
        return outcome(workdir)

    def _session(self, workdir: Path, variables: Mapping[str, str] | None = None, steps: int | None = None) -> Session:
        """A run of all steps, or of so many, each of which then is logged."""
        counts = (steps, 1) if steps else (self._steps, self._every)
        return Session(self._file, workdir, *counts, variables or {})


def only_one(backend: str) -> dict[str, str]:
    """The variables under which a new process sees one device."""
    if backend == "tpu":
        return {"TPU_VISIBLE_CHIPS": "0", "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
    if backend == "cpu":
        return {"JAX_NUM_CPU_DEVICES": "1"}
    names = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
    return {name: os.environ.get(name, "0").partition(",")[0] for name in names}


def prove(config: Config, workdir: Path, *, kills: int, devices: int, steps: int) -> tuple[str, list[Finding]]:
    """(backend, what came of each guarantee) of `config`, in fresh processes below `workdir`.

    Raises:
      RunError: a run fails.
    """
    prover = Prover(config, workdir, steps=steps, every=max(1, steps // (kills + 1)))
    proofs: list[Callable[[], Finding]] = [prover.same_seed, lambda: prover.killed(kills)]
    proofs.append(lambda: prover.one_device_and_many(devices))
    return prover.backend, [proof() for proof in proofs]
