# SPDX-License-Identifier: Apache-2.0
"""Dropout as a pure function of its key."""

import jax
import jax.numpy as jnp

from cnnjax.errors import UsageError
from cnnjax.types import Array


def dropout(key: Array, x: Array, rate: float) -> Array:
    """Sets each value to zero with probability `rate` and divides the others by 1 - rate.

    The expectation stays, so an evaluation leaves the layer out ("inverted" dropout; the paper scales the weights of
    the evaluation instead, which amounts to the same).

    Args:
      key: the same key drops the same values.
      x: floating-point, of any shape.
      rate: in 0..1; 0 returns `x`, 1 zeros.

    Returns:
      An array of x's shape and dtype.

    Raises:
      UsageError: `rate` is outside 0..1.

    Reference: Srivastava et al. 2014.
    """
    if not 0 <= rate <= 1:
        raise UsageError(f"dropout rate is {rate}; it must be in 0..1")
    if rate == 0:
        return x
    if rate == 1:  # nothing is kept, and 1 / (1 - rate) is no number
        return jnp.zeros_like(x)
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)
