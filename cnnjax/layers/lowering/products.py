# SPDX-License-Identifier: Apache-2.0
"""Matrix products, and kernel gradients of one group made of them: images times pixels is what is summed over."""

import itertools

import jax
import jax.numpy as jnp

from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.types import Array

_ROWS = 2048  # of im2col at a time; a larger map is taken whole


def matmul(a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    """From [...,M,K] and [...,K,N] to [...,M,N]; either may come with its last two axes swapped."""
    members = tuple(range(a.ndim - 2))
    rows, columns = (a.ndim - 2 if transpose_a else a.ndim - 1), (b.ndim - 1 if transpose_b else b.ndim - 2)
    return jax.lax.dot_general(a, b, (((rows,), (columns,)), (members, members)))


def by_pixel(x: Array, gradient: Array, geometry: Geometry) -> Array:
    """[B,H,W,C] and [B,H',W',F] to [1,1,C,F]: of a kernel of one tap, over the pixels of the whole batch."""
    padded = jnp.pad(x, ((0, 0), *geometry.sides, (0, 0)))
    rows, columns = (a.reshape(-1, a.shape[-1]) for a in (_met(padded, geometry, 0, 0), gradient))
    # The narrower one is what XLA's product packs anew for each block of the wider one.
    narrower_first = rows.shape[1] <= columns.shape[1]
    a, b = (rows, columns) if narrower_first else (columns, rows)
    out = jax.lax.optimization_barrier(matmul(a, b, transpose_a=True))
    return (out if narrower_first else out.T)[None, None]


def by_shift(x: Array, gradient: Array, geometry: Geometry) -> Array:
    """[B,H,W,C] and [B,H',W',F] to [h,w,C,F], of stride 1: one product over the map's pixels, of all taps at once.

    The columns are the gradient as each tap meets it, side by side: few where taps or features are.
    """
    size, taken, taps = geometry.size, geometry.output, []
    for i, j in itertools.product(*map(range, geometry.kernel_size)):
        lows = [geometry.dilation[k] * tap - geometry.sides[k][0] for k, tap in enumerate((i, j))]
        sides = [(low, size[k] - taken[k] - low, 0) for k, low in enumerate(lows)]  # less than nothing: cut off
        taps.append(jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), [(0, 0, 0), *sides, (0, 0, 0)]))
    columns = jnp.stack(taps, 3).reshape(-1, len(taps) * gradient.shape[-1])
    out = matmul(x.reshape(-1, x.shape[-1]), columns, transpose_a=True)
    return jnp.moveaxis(out.reshape(x.shape[-1], *geometry.kernel_size, -1), 0, 2)


def by_image(x: Array, gradient: Array, geometry: Geometry) -> Array:
    """The same as a product over im2col rows, a few images at a time, so that the rows stay in the cache."""
    channels, features = x.shape[-1], gradient.shape[-1]
    height, width = geometry.kernel_size
    padded = jnp.pad(x, ((0, 0), *geometry.sides, (0, 0)))
    images = _divisor(x.shape[0], _ROWS // (geometry.output[0] * geometry.output[1]))

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        padded, gradient = part
        taps = [_met(padded, geometry, i, j) for i in range(height) for j in range(width)]
        rows = jnp.concatenate(taps, -1).reshape(-1, height * width * channels)
        return total + matmul(rows, gradient.reshape(-1, features), transpose_a=True), None

    parts = (_in_parts(padded, images), _in_parts(gradient, images))
    total = jnp.zeros((height * width * channels, features), x.dtype)
    return jax.lax.scan(add, total, parts)[0].reshape(height, width, channels, features)


def _met(padded: Array, geometry: Geometry, i: int, j: int) -> Array:
    """The pixels of the padded map that tap (i, j) meets, [B,H',W',C]."""
    spans = []
    for tap, axis in ((i, 0), (j, 1)):
        first, step = tap * geometry.dilation[axis], geometry.stride[axis]
        spans.append(slice(first, first + (geometry.output[axis] - 1) * step + 1, step))
    return padded[:, spans[0], spans[1]]


def _in_parts(x: Array, images: int) -> Array:
    return x.reshape(-1, images, *x.shape[1:])


def _divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is not above `most`; at least 1."""
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= max(most, 1))
