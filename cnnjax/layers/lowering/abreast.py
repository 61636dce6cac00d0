# SPDX-License-Identifier: Apache-2.0
"""Convolutions of few features: windows that lie abreast are computed together, as further features.

A matrix product with six or sixteen columns leaves most of a processor's vectors empty. The kernel is therefore laid
out several times, each time a stride further to the right, and every window sees what a few neighbours see: more
multiplications, by zeros too, but fewer rows and full vectors. The results come out where they belong.
"""

import jax.numpy as jnp

from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.layers.lowering.native import forward as native_forward
from cnnjax.layers.lowering.native import mirror
from cnnjax.types import Array

_FEATURES = 32  # that fill the vectors
_MOST = 4  # windows: with more, most of what is multiplied is zeros


def takes(geometry: Geometry, features: int) -> bool:
    """Whether windows in a row can be taken together: of one group, taps side by side, more features than one."""
    return features > 1 and geometry.groups == 1 and geometry.dilation[1] == 1 and _together(geometry, features) > 1


def forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """[B,H,W,C] and [h,w,C,F] to [B,H',W',F]."""
    height, width, channels, features = kernel.shape
    windows, (down, right) = _together(geometry, features), geometry.stride
    further = right * (windows - 1)
    copies = [jnp.pad(kernel, ((0, 0), (right * i, further - right * i), (0, 0), (0, 0))) for i in range(windows)]
    placed = jnp.stack(copies, 3).reshape(height, width + further, channels, windows * features)
    together = geometry._replace(kernel_size=(height, width + further), stride=(down, right * windows))
    return native_forward(x, placed, together).reshape(x.shape[0], *geometry.output, features)


def input_gradient(gradient: Array, kernel: Array, geometry: Geometry) -> Array:
    """[B,H',W',F] and [h,w,C,F] to [B,H,W,C]; of a geometry that can be mirrored."""
    mirrored = geometry.mirrored()
    assert mirrored is not None
    return forward(gradient, mirror(kernel, 1), mirrored)


def _together(geometry: Geometry, features: int) -> int:
    """As many windows as divide a row of them and fill the vectors with features."""
    row = geometry.output[1]
    return max(n for n in range(1, min(_MOST, row) + 1) if row % n == 0 and (n == 1 or n * features <= _FEATURES))
