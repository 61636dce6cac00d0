# SPDX-License-Identifier: Apache-2.0
"""Matrix products, and kernel gradients of one group made of them: images times pixels is what is summed over."""

from typing import Protocol

import jax
import jax.numpy as jnp

from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.types import Array

_ROWS = 2048  # of im2col at a time; a larger map is taken whole


class Product(Protocol):
    """From [...,M,K] and [...,K,N] to [...,M,N]."""

    def __call__(self, a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False) -> Array:
        """Either may come with its last two axes swapped."""
        ...


def matmul(a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    """XLA's own `Product`."""
    members = tuple(range(a.ndim - 2))
    rows, columns = (a.ndim - 2 if transpose_a else a.ndim - 1), (b.ndim - 1 if transpose_b else b.ndim - 2)
    return jax.lax.dot_general(a, b, (((rows,), (columns,)), (members, members)))


def by_tap(x: Array, gradient: Array, geometry: Geometry, product: Product) -> Array:
    """[B,H,W,C] and [B,H',W',F] to [h,w,C,F]: a product for each tap of the kernel, over the whole batch."""
    height, width = geometry.kernel_size
    padded = jnp.pad(x, ((0, 0), *geometry.sides, (0, 0)))
    columns = gradient.reshape(-1, gradient.shape[-1])
    taps = [_met(padded, geometry, i, j).reshape(-1, x.shape[-1]) for i in range(height) for j in range(width)]
    return jnp.stack([product(rows, columns, transpose_a=True) for rows in taps]).reshape(
        height, width, x.shape[-1], -1
    )


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
