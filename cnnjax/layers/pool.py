# SPDX-License-Identifier: Apache-2.0
"""Pooling with the full signature of the lectures (PyTorch's), NHWC."""

import jax
import jax.numpy as jnp

from cnnjax.layers.sizes import Padding, Size, pair, resolve_padding, window_output
from cnnjax.types import Array


def max_pool2d(x: Array, kernel_size: Size, stride: Size | None = None, *, padding: Padding = 0) -> Array:
    """The largest value of each window; [B,H,W,C] -> [B,H',W',C]. `stride` None: the window."""
    window = pair(kernel_size, "kernel_size")
    strides = window if stride is None else pair(stride, "stride")
    sides = resolve_padding(padding, window, stride=strides)
    window_output(x.shape[1:3], window, strides, sides, (1, 1))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *sides, (0, 0)))


def avg_pool2d(x: Array, kernel_size: Size, stride: Size | None = None, *, padding: Padding = 0) -> Array:
    """The mean of each window, padding counted; [B,H,W,C] -> [B,H',W',C]. `stride` None: the window."""
    window = pair(kernel_size, "kernel_size")
    strides = window if stride is None else pair(stride, "stride")
    sides = resolve_padding(padding, window, stride=strides)
    window_output(x.shape[1:3], window, strides, sides, (1, 1))
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, *window, 1), (1, *strides, 1), ((0, 0), *sides, (0, 0)))
    return total / (window[0] * window[1])


def global_avg_pool2d(x: Array) -> Array:
    """The mean of each map; [B,H,W,C] -> [B,C]."""
    return x.mean((1, 2))


def adaptive_avg_pool2d(x: Array, output_size: Size) -> Array:
    """Means of windows that divide the map evenly into `output_size`; [B,H,W,C] -> [B,h,w,C].

    Window i of n along an axis of length L reaches from floor(i * L / n) to ceil((i + 1) * L / n), as in PyTorch; a
    map of that size already is returned as it is.
    """
    for axis, size in enumerate(pair(output_size, "output_size"), start=1):
        length = x.shape[axis]
        if length == size:
            continue
        edges = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        parts = [jax.lax.slice_in_dim(x, low, high, axis=axis).mean(axis, keepdims=True) for low, high in edges]
        x = jnp.concatenate(parts, axis)
    return x
