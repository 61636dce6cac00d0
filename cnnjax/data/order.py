# SPDX-License-Identifier: Apache-2.0
"""The order of the training examples: a pure function of (seed, epoch), never stored.

The permutations sort raw words of the counter-based generator Philox, whose stream numpy keeps unchanged
between releases (it does not promise that of `Generator.permutation`), so an order outlives an upgrade.

Reference: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


def permutation(num_examples: int, key: tuple[int, int]) -> np.ndarray:
    """A permutation of 0..num_examples - 1, [num_examples] int64, fixed by two integers taken modulo 2^64."""
    words = np.array([word % 2**64 for word in key], dtype=np.uint64)
    return np.argsort(np.random.Philox(key=words).random_raw(num_examples), kind="stable")


@functools.lru_cache(maxsize=4)  # a dispatch touches the end of one epoch and the start of the next
def epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """The rows of an epoch in their shuffled order.

    Args:
      seed: config.seed.
      epoch: from 0.
      num_examples: N, at most 2^31 - 1.

    Returns:
      [N] int32, a permutation of 0..N-1; read-only, because calls share it.
    """
    order = permutation(num_examples, (seed, epoch)).astype(np.int32)
    order.flags.writeable = False
    return order


class Visits(NamedTuple):
    """The rows of an epoch in their order, and how many times each was visited before: what augmentation draws by."""

    example: np.ndarray  # [N] int32
    visit: np.ndarray  # [N] int32


OrderFn = Callable[[int, int, int], Visits]
"""`order(seed, epoch, num_examples)`, a pure function."""


def shuffled(seed: int, epoch: int, num_examples: int) -> Visits:
    """Every row once an epoch, in the order of `epoch_order`."""
    return Visits(epoch_order(seed, epoch, num_examples), np.full(num_examples, epoch, np.int32))


def make_balanced(label: np.ndarray) -> OrderFn:
    """The order in which every class comes equally often, shuffled; rows of small classes come several times.

    A class gives N / K rows an epoch (one more or less), the next ones of its own shuffled passes: of a small class
    every picture comes before any comes again, and of a large one the next epochs bring those that are left.

    Args:
      label: [N] integers, the class of each row.
    """
    rows_of = [np.flatnonzero(label == each) for each in np.unique(label)]

    def order(seed: int, epoch: int, num_examples: int) -> Visits:
        # What N / K leaves over goes to the classes in turn, epoch by epoch.
        shares = [(k + epoch * num_examples + np.array([0, num_examples])) // len(rows_of) for k in range(len(rows_of))]
        drawn = [_passes(rows, seed, k, *share) for k, (rows, share) in enumerate(zip(rows_of, shares, strict=True))]
        mixed = permutation(num_examples, (seed, epoch))
        example, visit = (np.concatenate(parts)[mixed].astype(np.int32) for parts in zip(*drawn, strict=True))
        return Visits(example, visit)

    return order


def _passes(rows: np.ndarray, seed: int, number: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Places first..last-1 of the shuffled passes through `rows`, laid end to end, and the pass of each place."""
    # Second words of the generator's key; epochs, which share the generator, never come so far.
    passes = range(first // len(rows), -(-last // len(rows)))
    laid = [rows[permutation(len(rows), (seed, ((number + 1) << 32) + each))] for each in passes]
    place = np.arange(first, last)
    return np.concatenate(laid)[place - passes[0] * len(rows)], place // len(rows)


def stream_positions(
    seed: int, start: int, count: int, num_examples: int, order: OrderFn = shuffled
) -> tuple[np.ndarray, np.ndarray]:
    """Positions start..start+count-1 of all epochs' orders laid end to end, without bound.

    Nothing is dropped where an epoch ends: a batch takes the first rows of the next one.

    Args:
      seed: config.seed.
      start: first position, from 0.
      count: how many.
      num_examples: N of an epoch.
      order: `shuffled`, one of `make_balanced`, or either behind a cache.

    Returns:
      (example, epoch): [count] int32 each, the row of the split and how many times it was visited before, which is
      the epoch where every row comes once an epoch.
    """
    epochs = range(start // num_examples, (start + count - 1) // num_examples + 1)
    parts = [order(seed, each, num_examples) for each in epochs]
    example, epoch = (np.concatenate(whole) for whole in zip(*parts, strict=True))
    inside = slice(start - epochs[0] * num_examples, start - epochs[0] * num_examples + count)
    return example[inside], epoch[inside]
