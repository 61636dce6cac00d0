# SPDX-License-Identifier: Apache-2.0
"""Which way a convolution and its gradients are computed on a CPU: one rule by shape, the same on every machine.

In a training step in float32 all ways are XLA's, so that the compiled step can be kept for the next start; oneDNN
takes what is only evaluated. The measurements behind each line are in docs/convolution.md.
"""

import math
from collections.abc import Callable

import numpy as np

from cnnjax.layers.lowering import abreast, native, onednn, products, whole, winograd
from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.types import Array

Way = Callable[[Array, Array, Geometry], Array]
Shape = tuple[int, ...]

_DEEP = 64  # channels that make Winograd's convolution gain more by its products than its transforms cost
_SMALL_MAP = 16 * 16  # pixels; up to that the transforms of the kernel weigh more, and twice the channels are needed
_MANY_PIXELS = 512  # of all images: with fewer, the transform of the kernel costs Winograd's convolution its gain
_FEW_TAPS = 4  # up to that all taps' kernel gradients are best had as one product
_FEW_FEATURES = 15  # up to that, and fewer than channels, the same
_LITTLE = 128, 15, 16  # images, channels, features: up to that networks answer sooner by XLA's
_FEW_IMAGES = 3  # up to that XLA's kernel gradient, which sums over the images innermost, is slow


def choose_forward(x: Shape, kernel: Shape, geometry: Geometry, dtype: np.dtype) -> Way:
    """Of x [B,H,W,C] and kernel [h,w,C/groups,F], where nothing is differentiated."""
    little = all(n <= most for n, most in zip((x[0], *kernel[-2:]), _LITTLE, strict=True))
    spared = little and geometry.groups == 1 and dtype == np.float32
    return _forward(x, kernel, geometry, dtype, library=not spared and onednn.takes(dtype))


def choose_trained_forward(x: Shape, kernel: Shape, geometry: Geometry, dtype: np.dtype) -> Way:
    """Of x [B,H,W,C] and kernel [h,w,C/groups,F], where gradients are wanted too."""
    return _forward(x, kernel, geometry, dtype, library=_library_trains(geometry, dtype))


def choose_input_gradient(gradient: Shape, kernel: Shape, geometry: Geometry, dtype: np.dtype) -> Way:
    """Of gradient [B,H',W',F] and kernel [h,w,C/groups,F]."""
    if whole.takes(geometry):
        return whole.input_gradient
    mirrored = geometry.mirrored()
    if mirrored is None:
        return native.canonical_input_gradient
    if _winograd_pays(gradient[0], kernel, mirrored, dtype, _deep_enough(mirrored)):
        return winograd.input_gradient
    if _library_trains(geometry, dtype):
        return onednn.input_gradient
    return abreast.input_gradient if abreast.takes(mirrored, kernel[-2]) else native.canonical_input_gradient


def choose_kernel_gradient(x: Shape, gradient: Shape, geometry: Geometry, dtype: np.dtype) -> Way:
    """Of x [B,H,W,C] and gradient [B,H',W',F]."""
    if geometry.groups > 1:
        return native.kernel_gradient
    if whole.takes(geometry):
        return whole.kernel_gradient
    channels, features = x[-1], gradient[-1]
    if _winograd_pays(x[0], (channels, features), geometry, dtype, _DEEP // 2):
        return winograd.kernel_gradient
    if geometry.kernel_size == (1, 1):
        return products.by_pixel
    few = math.prod(geometry.kernel_size) <= _FEW_TAPS or features <= min(_FEW_FEATURES, channels - 1)
    if few and geometry.stride == (1, 1):
        return products.by_shift
    return products.by_image if x[0] <= _FEW_IMAGES else native.canonical_kernel_gradient


def _forward(x: Shape, kernel: Shape, geometry: Geometry, dtype: np.dtype, *, library: bool) -> Way:
    if whole.takes(geometry):
        return whole.forward
    if _winograd_pays(x[0], kernel, geometry, dtype, _deep_enough(geometry)):
        return winograd.forward
    if library:
        return onednn.forward
    return abreast.forward if abreast.takes(geometry, kernel[-1]) else native.forward


def _library_trains(geometry: Geometry, dtype: np.dtype) -> bool:
    """Whether oneDNN takes part in training: where XLA is many times slower."""
    return (geometry.groups > 1 or dtype != np.float32) and onednn.takes(dtype)


def _deep_enough(geometry: Geometry) -> int:
    return _DEEP if math.prod(geometry.output) > _SMALL_MAP else 2 * _DEEP


def _winograd_pays(images: int, kernel: Shape, geometry: Geometry, dtype: np.dtype, least: int) -> bool:
    """Whether Winograd's way is faster; in half precision it would round too much."""
    deep = min(kernel[-2:]) >= least and images * math.prod(geometry.output) >= _MANY_PIXELS
    return deep and dtype == np.float32 and winograd.takes(geometry)
