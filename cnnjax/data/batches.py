# SPDX-License-Identifier: Apache-2.0
"""Batches of a streamed split by step: a pure function, which any process can compute for any step.

So the order does not depend on how many processes and threads there are, and a run goes on from a step by asking
for it.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from cnnjax.data.order import OrderFn, make_balanced, shuffled, stream_positions
from cnnjax.data.streamed import Crop, Rows, Unreadable, cropped, stacked

Item = dict[str, np.ndarray]
"""Of one step: `image` uint8 [b,H,W,C], `label` and `example` int32 [b], `mask` float32 [b], and more for training."""

_EVAL_NAMES = ("image", "label", "example", "mask")
_TRAIN_NAMES = ("image", "label", "example", "epoch", "mask")
_PARTNER_NAMES = ("partner_image", "partner_label", "partner_example", "partner_epoch")


class Part(NamedTuple):
    """Which rows of each batch a process makes: first..first + count - 1 of `batch_size`."""

    batch_size: int
    first: int
    count: int


class Batches:
    """`batches[step]` is the item of that step.

    Args:
      rows: of the split.
      label: [N] int32.
      part: the rows of this process.
      names: of the arrays of an item.
      threads: that share a batch.
    """

    def __init__(self, rows: Rows, label: np.ndarray, part: Part, names: Sequence[str], threads: int):
        self.rows, self.label, self.part, self.names = rows, label, part, tuple(names)
        self._threads = threads
        self._begin()

    def _begin(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return 2**31 - 1  # steps without end; Grain wants a number

    def __getitem__(self, step: int) -> Item:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_pool", "_lock", "_order")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def blank(self) -> Item:
        """Zeros of the shapes of an item."""
        kinds = {"image": (np.uint8, self.rows.image_shape), "mask": (np.float32, ())}
        found = {}
        for name in self.names:
            dtype, shape = kinds.get(name.removeprefix("partner_"), (np.int32, ()))
            found[name] = np.zeros((self.part.count, *shape), dtype)
        return found

    def close(self) -> None:
        """Lets the threads go; they are made again when needed."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _images(self, make: Callable[..., np.ndarray], arguments: Sequence[Any]) -> np.ndarray:
        with self._lock:
            self._pool = self._pool or ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        return stacked(make, arguments, self.rows.image_shape, self._pool)


class TrainBatches(Batches):
    """Shuffled batches without end: the rows and epochs of `resident.train_stream` with the same arguments.

    Args:
      rows, label, part, threads: as for `Batches`.
      seed: of the order and the crops.
      skip: whether an unreadable picture becomes a black one under mask 0 in place of an error.
      balance: whether every class comes equally often.
      with_partner: whether the item also has `partner_*`, the rows at the next positions of the stream.
      ranges: of random crops; None: the pictures as a resident set holds them.
    """

    def __init__(
        self,
        rows: Rows,
        label: np.ndarray,
        part: Part,
        threads: int,
        *,
        seed: int,
        skip: bool = False,
        balance: bool = False,
        with_partner: bool = False,
        ranges: Crop | None = None,
    ):
        super().__init__(rows, label, part, _TRAIN_NAMES + _PARTNER_NAMES * with_partner, threads)
        self._seed, self._skip, self._balance, self._ranges = seed, skip, balance, ranges
        self._with_partner = with_partner

    def __getitem__(self, step: int) -> Item:
        size, first, count = self.part
        start, number = step * size + first, count + self._with_partner
        example, epoch = stream_positions(self._seed, start, number, len(self.label), self._order)
        mask = np.ones(number, np.float32)

        def image(place: int) -> np.ndarray:
            try:
                return self._image(int(example[place]), int(epoch[place]))
            except Unreadable:
                if not self._skip:
                    raise
                mask[place] = 0
                return np.zeros(self.rows.image_shape, np.uint8)

        images = self._images(image, range(number))
        every = {"image": images, "label": self.label[example], "example": example, "epoch": epoch, "mask": mask}
        item = {name: value[:count] for name, value in every.items()}
        if self._with_partner:
            item |= {name: every[name.removeprefix("partner_")][1:] for name in _PARTNER_NAMES}
            item["mask"] = mask[:count] * mask[1:]
        return item

    @functools.cached_property
    def _order(self) -> OrderFn:
        return functools.lru_cache(maxsize=2)(make_balanced(self.label) if self._balance else shuffled)

    def _image(self, example: int, epoch: int) -> np.ndarray:
        if self._ranges is None:
            return self.rows.image(example)
        return cropped(self.rows, example, epoch, self._seed, self._ranges)


class EvalBatches(Batches):
    """The rows in order, each once; what the last batch lacks is row 0 under mask 0, as in `resident.eval_stream`."""

    def __init__(self, rows: Rows, label: np.ndarray, part: Part, threads: int):
        super().__init__(rows, label, part, _EVAL_NAMES, threads)

    def __getitem__(self, step: int) -> Item:
        size, first, count = self.part
        row = step * size + first + np.arange(count)
        inside = row < len(self.label)
        example = np.where(inside, row, 0).astype(np.int32)
        image = np.empty((count, *self.rows.image_shape), np.uint8)
        image[inside] = self._images(self.rows.image, example[inside].tolist())
        image[~inside] = 0  # the mask covers them
        return {"image": image, "label": self.label[example], "example": example, "mask": inside.astype(np.float32)}
