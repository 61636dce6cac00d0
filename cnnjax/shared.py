# SPDX-License-Identifier: Apache-2.0
"""What process 0 keeps for all of several: the log and the checkpoints. One process by itself has its own.

Only process 0 touches files, so the others need neither the workdir nor a file system in common. What it reads it
sends to them: texts and numbers over the lifeline, arrays through the devices' own connections, bit for bit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import SupportsFloat

import jax
import numpy as np

from cnnjax import devices, processes
from cnnjax.checkpoint import FOLDER, Checkpoints, DamagedCheckpoint
from cnnjax.report.log import RunLog
from cnnjax.types import PyTree, TrainState


def open_log(workdir: Path, *, resume_step: int | None = None) -> "RunLog | SharedLog":
    """The log of a run, which process 0 writes."""
    return (SharedLog if processes.several() else RunLog)(workdir, resume_step=resume_step)


def open_checkpoints(workdir: Path, *, keep: int | None = None, keep_best: bool = False) -> Checkpoints:
    """The checkpoints of a run, which process 0 reads and writes."""
    return (SharedCheckpoints if processes.several() else Checkpoints)(workdir, keep=keep, keep_best=keep_best)


class SharedLog:
    """A `RunLog` of process 0, and nothing in the others."""

    def __init__(self, workdir: Path, *, resume_step: int | None = None):
        self._own = RunLog(workdir, resume_step=resume_step) if processes.is_first() else None

    def write(self, step: int, split: str, metrics: Mapping[str, SupportsFloat]) -> None:
        """As of `RunLog`."""
        if self._own is not None:
            self._own.write(step, split, metrics)

    def holds(self, step: int, split: str) -> bool:
        """As of `RunLog`; the same in all processes."""
        own = self._own
        return processes.first(lambda: own is not None and own.holds(step, split))

    def close(self) -> None:
        """As of `RunLog`."""
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> "SharedLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SharedCheckpoints(Checkpoints):
    """The `Checkpoints` of process 0; all processes make the same calls at the same time, and get the same answers."""

    def __init__(self, workdir: Path, *, keep: int | None = None, keep_best: bool = False):
        self.directory = workdir / FOLDER
        self._own = Checkpoints(workdir, keep=keep, keep_best=keep_best) if processes.is_first() else None

    def save(
        self,
        step: int,
        state: TrainState,
        score: float | None = None,
        *,
        unlogged: Sequence[Mapping[str, tuple[float, float]]] = (),
        again: bool = False,
    ) -> None:
        """As of `Checkpoints`; arrays that are divided over the processes come together in process 0, one by one."""
        leaves, form = jax.tree.flatten(state)
        arrays = [self._taken(devices.whole(leaf)) for leaf in leaves]
        if self._own is not None:
            self._own.save(step, jax.tree.unflatten(form, arrays), score, unlogged=unlogged, again=again)

    def wait(self) -> None:
        """As of `Checkpoints`; the others do not wait."""
        if self._own is not None:
            self._own.wait()

    def close(self) -> None:
        """As of `Checkpoints`."""
        if self._own is not None:
            self._own.close()

    def steps(self) -> list[int]:
        """As of `Checkpoints`."""
        return processes.first(lambda: self._first().steps())

    def best(self) -> int | None:
        """As of `Checkpoints`."""
        return processes.first(lambda: self._first().best())

    def unlogged(self, step: int) -> list[dict[str, tuple[float, float]]]:
        """As of `Checkpoints`."""
        return processes.first(lambda: self._first().unlogged(step))

    def restore_newest(self, like: Mapping[str, PyTree]) -> tuple[int, dict[str, PyTree]] | None:
        """As of `Checkpoints`."""
        found = None if self._own is None else self._own.restore_newest(_on_host(like))
        step = processes.first(lambda: None if found is None else found[0])
        return None if step is None else (step, _spread(None if found is None else found[1], like))

    def restore(self, like: Mapping[str, PyTree], step: int) -> dict[str, PyTree]:
        """As of `Checkpoints`."""
        found, problem = None, None
        if self._own is not None:
            try:
                found = self._own.restore(_on_host(like), step)
            except DamagedCheckpoint as error:
                problem = str(error)
        if (problem := processes.first(lambda: problem)) is not None:
            raise DamagedCheckpoint(problem)
        return _spread(found, like)

    def _taken(self, leaf: jax.Array) -> np.ndarray | None:
        return None if self._own is None else np.asarray(leaf)

    def _first(self) -> Checkpoints:
        assert self._own is not None  # only process 0 asks
        return self._own


def _on_host(like: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Asks the storage library for arrays of NumPy."""
    return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), dict(like))


def _spread(found: dict[str, PyTree] | None, like: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """The arrays that process 0 has `found`, in all processes, as `like` places them."""
    from jax.experimental import multihost_utils

    shapes, form = jax.tree.flatten(dict(like))
    mine = [np.empty(x.shape, x.dtype) for x in shapes] if found is None else jax.tree.leaves(found)
    # As integers of their own width: sums with zeros, by which they travel, would change -0.0.
    bits = [np.ascontiguousarray(x).reshape(x.shape).view(f"u{x.dtype.itemsize}") for x in mine]
    bits = multihost_utils.broadcast_one_to_all(bits)
    arrays = [np.asarray(b).view(x.dtype) for b, x in zip(bits, shapes, strict=True)]
    return jax.tree.unflatten(form, [devices.place(a, x.sharding) for a, x in zip(arrays, shapes, strict=True)])
