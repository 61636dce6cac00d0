# SPDX-License-Identifier: Apache-2.0
"""The order of the training examples: a pure function of (seed, epoch), never stored.

The permutations sort raw words of the counter-based generator Philox, whose stream numpy keeps unchanged
between releases (it does not promise that of `Generator.permutation`), so an order outlives an upgrade.

Reference: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import functools
from collections.abc import Callable

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


OrderFn = Callable[[int, int, int], np.ndarray]


def stream_positions(
    seed: int, start: int, count: int, num_examples: int, order: OrderFn = epoch_order
) -> tuple[np.ndarray, np.ndarray]:
    """Positions start..start+count-1 of all epochs' orders laid end to end, without bound.

    Nothing is dropped where an epoch ends: a batch takes the first rows of the next one.

    Args:
      seed: config.seed.
      start: first position, from 0.
      count: how many.
      num_examples: N of an epoch.
      order: `epoch_order`, or the same behind another cache.

    Returns:
      (example, epoch): [count] int32 each, the row of the split and the epoch it is visited in.
    """
    position = start + np.arange(count, dtype=np.int64)
    epoch = position // num_examples
    example = np.empty(count, np.int32)
    for each in range(start // num_examples, (start + count - 1) // num_examples + 1):
        inside = epoch == each
        example[inside] = order(seed, each, num_examples)[position[inside] % num_examples]
    return example, epoch.astype(np.int32)
