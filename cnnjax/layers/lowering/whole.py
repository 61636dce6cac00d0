# SPDX-License-Identifier: Apache-2.0
"""A kernel as large as the map: its one window is all there is, and convolution and gradients are matrix products."""

import jax
import jax.numpy as jnp

from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.layers.lowering.products import matmul
from cnnjax.types import Array


def takes(geometry: Geometry) -> bool:
    """Whether the kernel covers the map, of one group, and no padding."""
    return geometry.groups == 1 and geometry.kernel_size == geometry.size and not any(map(any, geometry.sides))


def forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """[B,h,w,C] and [h,w,C,F] to [B,1,1,F]."""
    del geometry
    # The number itself: else XLA makes one slow kernel of a pooling before and the product (layers/fully_connected.py).
    kind = jnp.finfo(x.dtype)
    return matmul(jax.lax.reduce_precision(_rows(x), kind.nexp, kind.nmant), _columns(kernel))[:, None, None]


def input_gradient(gradient: Array, kernel: Array, geometry: Geometry) -> Array:
    """[B,1,1,F] and [h,w,C,F] to [B,h,w,C]."""
    return matmul(_rows(gradient), _columns(kernel), transpose_b=True).reshape(-1, *geometry.size, kernel.shape[2])


def kernel_gradient(x: Array, gradient: Array, geometry: Geometry) -> Array:
    """[B,h,w,C] and [B,1,1,F] to [h,w,C,F]."""
    return matmul(_rows(x), _rows(gradient), transpose_a=True).reshape(*geometry.size, x.shape[3], -1)


def _rows(x: Array) -> Array:
    return x.reshape(x.shape[0], -1)


def _columns(kernel: Array) -> Array:
    return kernel.reshape(-1, kernel.shape[-1])
