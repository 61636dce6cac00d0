# SPDX-License-Identifier: Apache-2.0
"""The backend's own convolution (`jax.lax`), and its gradients as jax derives them."""

import jax
import jax.numpy as jnp

from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.types import Array

LAYOUT = ("NHWC", "HWIO", "NHWC")


def forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """[B,H,W,C] and [h,w,C/groups,F] to [B,H',W',F]."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        geometry.stride,
        geometry.sides,
        rhs_dilation=geometry.dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=geometry.groups,
    )


def input_gradient(gradient: Array, kernel: Array, geometry: Geometry) -> Array:
    """[B,H',W',F] and [h,w,C/groups,F] to [B,H,W,C]."""
    shape = (gradient.shape[0], *geometry.size, kernel.shape[2] * geometry.groups)
    like = jax.ShapeDtypeStruct(shape, gradient.dtype)
    return jax.linear_transpose(lambda x: forward(x, kernel, geometry), like)(gradient)[0]


def kernel_gradient(x: Array, gradient: Array, geometry: Geometry) -> Array:
    """[B,H,W,C] and [B,H',W',F] to [h,w,C/groups,F]."""
    shape = (*geometry.kernel_size, x.shape[-1] // geometry.groups, gradient.shape[-1])
    like = jax.ShapeDtypeStruct(shape, x.dtype)
    return jax.linear_transpose(lambda kernel: forward(x, kernel, geometry), like)(gradient)[0]


def mirror(kernel: Array, groups: int) -> Array:
    """[h,w,C/groups,F] to [h,w,F/groups,C]: the kernel turned round, with what goes in and what comes out swapped."""
    height, width, channels, features = kernel.shape
    taps = jnp.flip(kernel, (0, 1)).reshape(height, width, channels, groups, features // groups)
    return taps.transpose(0, 1, 4, 3, 2).reshape(height, width, features // groups, groups * channels)


def canonical_input_gradient(gradient: Array, kernel: Array, geometry: Geometry) -> Array:
    """`input_gradient` as a convolution in the layout that XLA's fast CPU kernels take.

    XLA rewrites convolutions to that layout itself, but not those inside loops, which are then far slower.
    """
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, geometry.kernel_size, strict=True)]
    spread = [(n - 1) * s + 1 for n, s in zip(geometry.output, geometry.stride, strict=True)]
    lows = [reach[i] - geometry.sides[i][0] for i in (0, 1)]
    return jax.lax.conv_general_dilated(
        gradient,
        mirror(kernel, geometry.groups),
        (1, 1),
        [(lows[i], geometry.size[i] - spread[i] - lows[i] + reach[i]) for i in (0, 1)],
        lhs_dilation=geometry.stride,
        rhs_dilation=geometry.dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=geometry.groups,
    )


def canonical_kernel_gradient(x: Array, gradient: Array, geometry: Geometry) -> Array:
    """`kernel_gradient` of one group in that layout: channels are the images, images the channels."""
    spread = [(n - 1) * s + 1 for n, s in zip(geometry.output, geometry.stride, strict=True)]
    if any(n > size for n, size in zip(spread, geometry.size, strict=True)):
        # XLA has no fast convolution by a kernel larger than the map.
        x = jnp.pad(x, ((0, 0), *geometry.sides, (0, 0)))
        geometry = geometry._replace(size=x.shape[1:3], sides=((0, 0), (0, 0)))
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, geometry.kernel_size, strict=True)]
    lows = [geometry.sides[i][0] for i in (0, 1)]
    out = jax.lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),  # [C,H,W,B]
        gradient.transpose(1, 2, 0, 3),  # [H',W',B,F]
        geometry.dilation,
        [(lows[i], reach[i] + spread[i] - geometry.size[i] - lows[i]) for i in (0, 1)],
        rhs_dilation=geometry.stride,
        dimension_numbers=LAYOUT,
    )  # [C,h,w,F]
    return out.transpose(1, 2, 0, 3)
