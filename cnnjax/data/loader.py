# SPDX-License-Identifier: Apache-2.0
"""Batches made ahead of time by Grain: in threads of this process, or in worker processes."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from cnnjax.data.batches import Batches
from cnnjax.errors import CnnjaxError, RunError
from cnnjax.types import PyTree


class Loader:
    """Items of a stream: quick when asked for steps in order, right for any.

    Args:
      batches: what to make.
      workers: processes that make them; 0: this one alone.
      prefetch: batches that each of them makes ahead.
      num_steps: after which the workers are let go; None: they are kept.
    """

    def __init__(self, batches: Batches, workers: int, prefetch: int, num_steps: int | None = None):
        self._batches, self._workers, self._prefetch, self._num_steps = batches, workers, prefetch, num_steps
        self._made: Iterator[Any] | None = None
        self._next, self._waited = 0, 0.0

    def items(self, first_step: int, count: int) -> PyTree:
        """Host arrays of `count` steps from `first_step` on, stacked along a new first axis.

        Raises:
          CnnjaxError: as making the batches does.
          RunError: a worker process ended.
        """
        started = time.perf_counter()
        if self._made is None or first_step != self._next:
            self._start(first_step)
        try:
            found = [self._take() for _ in range(count)]
        except BaseException:  # a signal's too: nobody knows how many were taken
            self.close()
            raise
        self._next += count
        if self._next == self._num_steps:
            self.close()
        stacked = {name: _stack([item[name] for item in found]) for name in found[0]}
        self._waited += time.perf_counter() - started
        return stacked

    def blank(self, count: int) -> PyTree:
        """Zeros of the shapes of `items(..., count)`, without making any."""
        return {name: np.zeros((count, *x.shape), x.dtype) for name, x in self._batches.blank().items()}

    def waited(self) -> float:
        """The seconds that `items` took since the last call."""
        before, self._waited = self._waited, 0.0
        return before

    def close(self) -> None:
        """Ends the workers; `items` starts them again."""
        made: Any = self._made
        self._made = None
        if made is not None:
            made.close()
        self._batches.close()

    def _start(self, first_step: int) -> None:
        import grain  # takes seconds: only streamed sets need it
        from absl import flags

        self.close()
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads some, and there is no absl application to parse them
        batches: Any = self._batches
        options = grain.ReadOptions(num_threads=min(2, self._prefetch), prefetch_buffer_size=self._prefetch)
        made = grain.MapDataset.source(batches)[first_step:].to_iter_dataset(options)
        if self._workers:
            processes = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=1)
            made = made.mp_prefetch(processes, worker_init_fn=_begin_worker)
        self._made, self._next = iter(made), first_step

    def _take(self) -> Any:
        assert self._made is not None
        try:
            return next(self._made)
        except CnnjaxError as error:
            raise type(error)(*error.args) from error  # without the remarks of Grain's on it
        except RuntimeError as error:  # Grain's word for a process that died
            raise RunError(
                f"a worker process of the data ended ({' '.join(str(error).split())[:100]}); the system may have "
                "killed it for its memory: lower config.data.workers or config.data.prefetch"
            ) from error


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def _begin_worker(index: int, count: int) -> None:
    """A worker ends with its parent, whatever ends that; signals to the whole group are the parent's business."""
    del index, count
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
