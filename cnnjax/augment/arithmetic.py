# SPDX-License-Identifier: Apache-2.0
"""Random numbers and arithmetic whose bits do not depend on the batch size, the row or the number of devices.

A compiler may turn a product and the sum that follows it into one rounding (a fused multiply-add), and it may add
the terms of a long sum in any order. It decides anew for each shape, so the last bit of a pixel would depend on the
size of the batch. So it does for exp, log and their like, which it computes otherwise for one number than for eight.
Here each product that is added to passes through `unfused`, long sums are sums of whole numbers, and functions
other than the square root are tabulated on the host.
"""

import math
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from cnnjax.types import Array

LEVELS = 4096


def unfused(value: Array | float) -> Array:
    """`value` (below 1e30) itself, rounded to float32 before anything is added to it."""
    # One instruction that changes nothing, but stands between the product and the sum. Compilers keep it, unlike
    # jax.lax.optimization_barrier and reduce_precision, because they cannot know the range; a lower bound they do
    # drop, when they see that the value is not negative.
    return jnp.minimum(value, 1e30)


def blend(first: Array, second: Array, share: Array) -> Array:
    """`second` with weight `share` in 0..1, `first` with the rest; exact at 0 and 1."""
    return unfused((1 - share) * first) + unfused(share * second)


def uniform_between(key: Array, low: ArrayLike, high: ArrayLike, shape: tuple[int, ...] = ()) -> Array:
    """Uniform in [low, high), float32 of `shape`; `low` and `high` are numbers or arrays of `shape`."""
    start, length = jnp.asarray(low, jnp.float32), jnp.asarray(np.subtract(high, low), jnp.float32)
    return start + unfused(jax.random.uniform(key, shape) * length)


def uniform_below(key: Array, count: Array | int, shape: tuple[int, ...] = ()) -> Array:
    """Whole numbers, uniform in [0, count), int32 of `shape`; `count` below 2**20, a number or an array of `shape`.

    `floor(uniform * count)` costs one hash, `jax.random.randint` two and a division. A float32 uniform is at most
    1 - 2**-23, whose product with `count` rounds to below `count`.
    """
    return jnp.floor(jax.random.uniform(key, shape) * count).astype(jnp.int32)


def levels(low: float = 0, high: float = 1) -> np.ndarray:
    """The middles of LEVELS equal parts of [low, high], float64: the argument of a function that is tabulated."""
    return low + (np.arange(LEVELS) + 0.5) * ((high - low) / LEVELS)


def normal_levels() -> np.ndarray:
    """The normal numbers below which the middles of LEVELS equal parts of all of them lie, float64."""
    return np.array([NormalDist().inv_cdf(share) for share in levels()])


def one_of(key: Array, table: np.ndarray, shape: tuple[int, ...] = ()) -> Array:
    """Rows of a table [n, ...], each as likely, float32 of `shape` + [...]."""
    return jnp.asarray(table, jnp.float32)[uniform_below(key, len(table), shape)]


def mean(image: Array) -> Array:
    """The mean of all values, which must lie within +-2, to about six digits; float32 []."""
    # 30 bits are for the sum: the more values, the coarser the step that each is rounded to.
    step = 2.0 ** (math.ceil(math.log2(image.size)) - 29)
    whole = jnp.round(image / step).astype(jnp.int32)
    return unfused(jnp.sum(whole).astype(jnp.float32) * (step / image.size))
