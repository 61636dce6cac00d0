# SPDX-License-Identifier: Apache-2.0
"""Pooling whose windows follow from the map: global, and adaptive to a size wanted (PyTorch's), NHWC."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnnjax.errors import UsageError
from cnnjax.layers.sizes import Size, pair
from cnnjax.types import Array


def global_avg_pool2d(x: Array) -> Array:
    """The mean of each map; [B,H,W,C] -> [B,C]."""
    return x.mean((1, 2))


def global_max_pool2d(x: Array) -> Array:
    """The largest value of each map; [B,H,W,C] -> [B,C]."""
    return x.max((1, 2))


def adaptive_avg_pool2d(x: Array, output_size: Size) -> Array:
    """Means of windows that divide the map evenly into `output_size`; [B,H,W,C] -> [B,h,w,C].

    Window i of n along an axis of length L reaches from floor(i * L / n) to ceil((i + 1) * L / n), as in PyTorch:
    neighbours overlap by a pixel where n does not divide L, and values repeat where n is the larger. A map of that
    size already is returned as it is. Computed in float32 at least; the result has x's dtype.

    Raises:
      UsageError: `output_size` is no size, or the map has no pixels.
    """
    return _adaptive(x.astype(jnp.promote_types(x.dtype, jnp.float32)), output_size, jnp.mean).astype(x.dtype)


def adaptive_max_pool2d(x: Array, output_size: Size) -> Array:
    """The largest values of the windows of `adaptive_avg_pool2d`; [B,H,W,C] -> [B,h,w,C].

    Raises:
      UsageError: `output_size` is no size, or the map has no pixels.
    """
    return _adaptive(x, output_size, jnp.max)


def _adaptive(x: Array, output_size: Size, reduce: Callable[..., Array]) -> Array:
    """One axis after the other: the mean and the maximum of a rectangle are those of its rows' ones."""
    if 0 in x.shape[1:3]:
        raise UsageError(f"the map is {x.shape[1]}x{x.shape[2]}: it has no pixels to pool; take a larger input")
    for axis, size in enumerate(pair(output_size, "output_size"), start=1):
        length = x.shape[axis]
        if length == size:
            continue
        edges = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        parts = [reduce(jax.lax.slice_in_dim(x, low, high, axis=axis), axis=axis, keepdims=True) for low, high in edges]
        x = jnp.concatenate(parts, axis)
    return x
