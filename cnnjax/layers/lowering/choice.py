# SPDX-License-Identifier: Apache-2.0
"""Which way a convolution and its gradients are computed on a CPU: one rule by shape, the same on every machine.

The measurements behind each line are in docs/convolution.md.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from cnnjax.layers.lowering import abreast, native, onednn, products, turned, whole, winograd
from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.types import Array

Way = Callable[[Array, Array, Geometry], Array]
Shape = tuple[int, ...]

_DEEP = 64  # channels that make Winograd's convolution gain more by its products than its transforms cost
_SMALL_MAP = 16 * 16  # pixels; up to that the transforms of the kernel weigh more, and twice the channels are needed
_MANY_PIXELS = 512  # of all images: with fewer, the transform of the kernel costs Winograd's convolution its gain
_FEW_ROWS = 32  # of a matrix, that XLA's product is done with before oneDNN has laid out the other one anew
_FEW_FEATURES = 15  # up to that XLA's kernel gradient of more channels is slow
_LITTLE = 128, 15, 16  # images, channels, features: up to that steps gain more by XLA's programs, which can be cached
_SMALL_KERNEL = 2**16  # numbers, of one as large as the map: the same
_FEW_IMAGES = 3  # up to that XLA's kernel gradient, which sums over the images innermost, is slow


def choose_forward(x: Shape, kernel: Shape, geometry: Geometry, dtype: np.dtype) -> Way:
    """Of x [B,H,W,C] and kernel [h,w,C/groups,F]."""
    if whole.takes(geometry):
        return partial(whole.forward, product=products.matmul if x[0] <= _FEW_ROWS else _whole(x[0], kernel, dtype))
    if _winograd_pays(x[0], kernel, geometry, dtype, _deep_enough(geometry)):
        return partial(winograd.forward, product=_matmul(dtype))
    if _library(x[0], kernel, geometry, dtype):
        return onednn.forward
    return abreast.forward if abreast.takes(geometry, kernel[-1]) else native.forward


def choose_input_gradient(gradient: Shape, kernel: Shape, geometry: Geometry, dtype: np.dtype) -> Way:
    """Of gradient [B,H',W',F] and kernel [h,w,C/groups,F]."""
    if whole.takes(geometry):
        return partial(whole.input_gradient, product=_whole(gradient[0], kernel, dtype))
    mirrored = geometry.mirrored()
    if mirrored is None:
        return native.canonical_input_gradient
    if _winograd_pays(gradient[0], kernel, mirrored, dtype, _deep_enough(mirrored)):
        return partial(winograd.input_gradient, product=_matmul(dtype))
    if _library(gradient[0], kernel, geometry, dtype):
        return onednn.input_gradient
    return abreast.input_gradient if abreast.takes(mirrored, kernel[-2]) else native.canonical_input_gradient


def choose_kernel_gradient(x: Shape, gradient: Shape, geometry: Geometry, dtype: np.dtype) -> Way:
    """Of x [B,H,W,C] and gradient [B,H',W',F]."""
    if geometry.groups > 1:
        return native.kernel_gradient
    if whole.takes(geometry):
        return partial(whole.kernel_gradient, product=_whole(x[0], (*x[1:], gradient[-1]), dtype))
    fast = _library(x[0], (x[-1], gradient[-1]), geometry, dtype)
    if _winograd_pays(x[0], (x[-1], gradient[-1]), geometry, dtype, _DEEP // 2 if fast else _DEEP):
        return partial(winograd.kernel_gradient, product=_matmul(dtype))
    if geometry.kernel_size == (1, 1):
        return partial(products.by_tap, product=onednn.matmul if fast else products.matmul)
    few = gradient[-1] < x[-1] and gradient[-1] <= _FEW_FEATURES
    if turned.takes(geometry) and (fast or few):
        return partial(turned.kernel_gradient, forward=onednn.forward if fast else native.forward)
    return products.by_image if x[0] <= _FEW_IMAGES else native.canonical_kernel_gradient


def _library(images: int, kernel: Shape, geometry: Geometry, dtype: np.dtype) -> bool:
    """Whether oneDNN is there, and there is enough for it to do."""
    little = all(n <= most for n, most in zip((images, *kernel[-2:]), _LITTLE, strict=True))
    return onednn.takes(dtype) and not (little and geometry.groups == 1 and dtype == np.float32)


def _whole(images: int, kernel: Shape, dtype: np.dtype) -> products.Product:
    """Of a kernel as large as the map."""
    little = images <= _LITTLE[0] and math.prod(kernel) <= _SMALL_KERNEL and dtype == np.float32
    return products.matmul if little else _matmul(dtype)


def _matmul(dtype: np.dtype) -> products.Product:
    return onednn.matmul if onednn.takes(dtype) else products.matmul


def _deep_enough(geometry: Geometry) -> int:
    return _DEEP if geometry.output[0] * geometry.output[1] > _SMALL_MAP else 2 * _DEEP


def _winograd_pays(images: int, kernel: Shape, geometry: Geometry, dtype: np.dtype, least: int) -> bool:
    """Whether Winograd's way is faster; in half precision it would round too much."""
    pixels = images * geometry.output[0] * geometry.output[1]
    deep = min(kernel[-2:]) >= least and pixels >= _MANY_PIXELS
    return deep and dtype == np.float32 and winograd.takes(geometry)
