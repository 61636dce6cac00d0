# SPDX-License-Identifier: Apache-2.0
"""A split that is never decoded as a whole: its rows when they are asked for, its labels at once."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import numpy as np

from cnnjax.data.crop import make_box
from cnnjax.data.decode import mixed
from cnnjax.data.jpeg import Policy, crop, decode
from cnnjax.errors import CnnjaxError, RunError, UsageError, why
from cnnjax.types import Split, Stored

_CHUNK = 4  # rows that a thread takes at once

Crop = tuple[tuple[float, float], tuple[float, float]]
"""(area, aspect) of random resized crops: `config.augment.crop_area` and `crop_aspect`."""


class Unreadable(RunError):
    """A picture of a streamed set cannot be read."""


class Rows(NamedTuple):
    """What worker processes are given of a split.

    Attributes:
      stored: the split of the source that the rows are from.
      index: [N] integers, the record of each row.
      policy: what a picture becomes.
      image_shape: (H, W, C) of all of them.
    """

    stored: Stored
    index: np.ndarray
    policy: Policy
    image_shape: tuple[int, int, int]

    def image(self, row: int) -> np.ndarray:
        """The picture of a row as a resident set holds it, uint8 [H,W,C].

        Raises:
          Unreadable: its file is gone or damaged.
          UsageError: it has another shape than the first picture of the set.
        """
        return self._checked(row, lambda encoded: decode(encoded, self.policy, self.stored.mode))

    def crop(self, row: int, choose: Callable[[int, int], tuple[int, int, int, int]]) -> np.ndarray:
        """A box of the whole picture as stored, resized to [H,W,C]; raises as `image` does."""
        policy = self.policy._replace(image_size=self.image_shape[:2])
        return self._checked(row, lambda encoded: crop(encoded, policy, choose, self.stored.mode))

    def _checked(self, row: int, make: Callable[[bytes], np.ndarray]) -> np.ndarray:
        record = int(self.index[row])
        try:
            image = make(self.stored.read(record))
        except UsageError as error:  # a ValueError too, but of the config, not of the picture
            raise UsageError(f"{self.stored.name(record)}: {error}") from None
        except CnnjaxError:
            raise
        except (OSError, ValueError) as error:
            raise Unreadable(
                f"{self.stored.name(record)} cannot be read ({why(error)}); mend or remove it: the run goes on from "
                "its last checkpoint. 'run.py prepare --source=folder:PATH --out=DIR' checks a set beforehand"
            ) from None
        if image.shape != self.image_shape:
            raise UsageError(mixed("the first picture", self.image_shape, self.stored.name(record), image.shape))
        return image


class Images:
    """The pictures of a streamed split, as if they were an array [N,H,W,C] of uint8: rows are decoded when indexed.

    Turned into an array as a whole it decodes all of them, if they take no more than `max_bytes`.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, rows: Rows, title: str, max_bytes: int):
        self.rows, self.title, self._max_bytes = rows, title, max_bytes

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return (len(self.rows.index), *self.rows.image_shape)

    @property
    def nbytes(self) -> int:
        """What all of them would take decoded."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows.index)

    def __getitem__(self, key: Any) -> np.ndarray:
        chosen = np.arange(len(self))[key]
        if chosen.ndim == 0:
            return self.rows.image(int(chosen))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return stacked(self.rows.image, chosen.tolist(), self.rows.image_shape, pool)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.nbytes > self._max_bytes:
            raise UsageError(
                f"{self.title} is streamed, and this needs all its pictures in memory: {self.nbytes / 2**30:.3g} GiB, "
                f"where config.data.max_resident_gib is {self._max_bytes / 2**30:g}; raise that, or make the images "
                "smaller with config.data.image_size"
            )
        array = self[:]
        return array if dtype is None else array.astype(dtype)

    def select(self, row: np.ndarray) -> "Images":
        """Some of the rows, still undecoded."""
        return Images(self.rows._replace(index=self.rows.index[row]), self.title, self._max_bytes)


def streamed_split(rows: Rows, label: np.ndarray, title: str, max_bytes: int) -> Split:
    """A split of `rows` with the labels `label` [N]; decoded as a whole only up to `max_bytes`."""
    return Split(cast(Any, Images(rows, title, max_bytes)), label)


def is_streamed(split: Split) -> bool:
    """Whether the pictures of a split are decoded batch by batch."""
    return isinstance(split.image, Images)


def rows_of(split: Split) -> Rows:
    """The rows of a split that `is_streamed`."""
    return cast(Any, split.image).rows


def select(split: Split, row: np.ndarray) -> Split:
    """Some of the rows of a split [n], decoded or streamed as it is."""
    image = split.image.select(row) if isinstance(split.image, Images) else split.image[row]
    return Split(cast(Any, image), split.label[row])


def cropped(rows: Rows, example: int, epoch: int, seed: int, ranges: Crop) -> np.ndarray:
    """The random resized crop of a row in an epoch, uint8 [H,W,C]: a function of (seed, epoch, example)."""
    box = make_box(*ranges)
    return rows.crop(example, lambda height, width: box(seed, epoch, example, height, width))


def stacked(
    make: Callable[[int], np.ndarray], arguments: Sequence[int], shape: tuple[int, int, int], pool: ThreadPoolExecutor
) -> np.ndarray:
    """`make` of each argument, in order, uint8 [n,H,W,C] of `shape`; threads share the work."""
    image = np.empty((len(arguments), *shape), np.uint8)

    def fill(start: int) -> None:
        for place in range(start, min(start + _CHUNK, len(arguments))):
            image[place] = make(arguments[place])

    for _ in pool.map(fill, range(0, len(arguments), _CHUNK)):
        pass
    return image
