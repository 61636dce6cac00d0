# SPDX-License-Identifier: Apache-2.0
"""Which way a convolution and its gradients are computed on a CPU: one rule by shape, the same on every machine.

The measurements behind each line are in docs/convolution.md.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from cnnjax.layers.lowering import native, onednn, products, turned, whole, winograd
from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.types import Array

Way = Callable[[Array, Array, Geometry], Array]
Shape = tuple[int, ...]

_LARGE_MAP = 64 * 64  # pixels; above that XLA's kernel gradient runs out of the cache
_SMALL_MAP = 16 * 16  # pixels; up to that the pixels of all images that meet a tap are quickly gathered
_SMALL_BATCH = 16  # images; with fewer XLA's kernel gradient, which sums over them innermost, is slow
_DEEP = 32  # channels on both sides that make a matrix product of one tap worth its while
_FEW_ROWS = 32  # of a matrix, that XLA's product is done with before oneDNN has laid out the other one anew
_MANY_PIXELS = 512  # of all images: with fewer, the transform of the kernel costs Winograd's convolution its gain


def choose_forward(x: Shape, kernel: Shape, geometry: Geometry, dtype: np.dtype) -> Way:
    """Of x [B,H,W,C] and kernel [h,w,C/groups,F]."""
    if whole.takes(geometry):
        return partial(whole.forward, product=whole.matmul if x[0] <= _FEW_ROWS else _matmul(dtype))
    if not onednn.takes(dtype):
        return native.forward
    return winograd.forward if _winograd_pays(x[0], kernel, geometry, dtype, _deep_enough(geometry)) else onednn.forward


def choose_input_gradient(gradient: Shape, kernel: Shape, geometry: Geometry, dtype: np.dtype) -> Way:
    """Of gradient [B,H',W',F] and kernel [h,w,C/groups,F]."""
    if whole.takes(geometry):
        return partial(whole.input_gradient, product=_matmul(dtype))
    mirrored = geometry.mirrored()
    if mirrored is None or not onednn.takes(dtype):
        return native.canonical_input_gradient
    fast = _winograd_pays(gradient[0], kernel, mirrored, dtype, _deep_enough(mirrored))
    return winograd.input_gradient if fast else onednn.input_gradient


def choose_kernel_gradient(x: Shape, gradient: Shape, geometry: Geometry, dtype: np.dtype) -> Way:
    """Of x [B,H,W,C] and gradient [B,H',W',F]."""
    if geometry.groups > 1:
        return native.kernel_gradient
    if whole.takes(geometry):
        return partial(whole.kernel_gradient, product=_matmul(dtype))
    fast = onednn.takes(dtype)
    if fast and _winograd_pays(x[0], (x[-1], gradient[-1]), geometry, dtype, _DEEP):
        return winograd.kernel_gradient
    if fast and geometry.kernel_size != (1, 1) and turned.takes(geometry):
        return turned.kernel_gradient
    product = onednn.dot if fast else products.dot
    pixels, strided = geometry.output[0] * geometry.output[1], geometry.stride != (1, 1)
    depth = min(x[-1], gradient[-1])
    deep = depth >= (_DEEP if strided else 2 * _DEEP)
    if geometry.kernel_size == (1, 1) or (deep and pixels <= _SMALL_MAP):
        return partial(products.by_tap, product=product)
    if strided or pixels > _LARGE_MAP or x[0] < _SMALL_BATCH:
        return partial(products.by_image, product=product)
    return native.canonical_kernel_gradient


def _matmul(dtype: np.dtype) -> whole.Product:
    return onednn.matmul if onednn.takes(dtype) else whole.matmul


def _deep_enough(geometry: Geometry) -> int:
    """Channels from which on Winograd's convolution gains by its products more than its transforms cost."""
    return (2 if geometry.output[0] * geometry.output[1] > _SMALL_MAP else 4) * _DEEP


def _winograd_pays(images: int, kernel: Shape, geometry: Geometry, dtype: np.dtype, least: int) -> bool:
    """Whether, where oneDNN is there, Winograd's way is faster; in half precision it would round too much."""
    pixels = images * geometry.output[0] * geometry.output[1]
    deep = min(kernel[-2:]) >= least and pixels >= _MANY_PIXELS
    return deep and dtype == np.float32 and winograd.takes(geometry)
