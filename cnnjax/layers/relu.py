# SPDX-License-Identifier: Apache-2.0
"""The rectifier behind a sum that several later operations read."""

from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.types import Array


@jax.custom_jvp
def relu_of_sum(x: Array) -> Array:
    """`jax.nn.relu`, for the end of a residual block.

    XLA's CPU compiler computes max(x, 0) again in every loop that reads it, and with it the sum that x is: each block
    of a residual network would read what all the blocks before it in its stage have added. It does not repeat a
    choice between two arrays. The derivative asks the result, not the sum, for the sign.

    Args:
      x: any shape, floating-point.

    Returns:
      x's shape and dtype: x where it is above 0 (or no number), else 0.
    """
    return jnp.where(x <= 0, 0, x)


@relu_of_sum.defjvp
def _relu_of_sum_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (tangent,) = primals, tangents
    out = relu_of_sum(x)
    return out, jnp.where(out > 0, tangent, 0)
