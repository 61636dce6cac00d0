# SPDX-License-Identifier: Apache-2.0
"""The kernel gradient as one forward convolution: images are its channels, channels lie among the columns.

  kernel[i, j, c, f] = sum over b, y, x of  map[b, s*y + i, t*x + j, c] * gradient[b, y, x, f]

reads as the convolution of one picture, whose pixel (y, x*C + c) has a channel for each image, with the gradient as
a kernel as large as the map, whose taps are t*C columns apart. The result has h rows of w*C columns: long enough to
keep a processor's registers full, where images as channels alone leave them w numbers.

The features are what its vectors hold. Where they are few and the channels many, map and gradient swap their parts:
the mirrored kernel comes out, with the channels in the vectors.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.layers.lowering.native import mirror
from cnnjax.types import Array

_MANY = 32  # features that fill the vectors well enough
_PARTS = 4  # of the rows; a loop over few long ones leaves work for all cores in each


def takes(geometry: Geometry) -> bool:
    """Whether the gradient can be had so: of one group, its taps side by side along a row, its windows on the map."""
    met = (size + min(far, 0) for size, far in zip(geometry.size, _reach_beyond(geometry), strict=True))
    return geometry.groups == 1 and geometry.dilation[1] == 1 and min(met) > 0


def kernel_gradient(x: Array, gradient: Array, geometry: Geometry, forward: Callable[..., Array]) -> Array:
    """[B,H,W,C] and [B,H',W',F] to [h,w,C,F], by `onednn.forward` or `native.forward`."""
    swapped = geometry.mirrored()
    if swapped and takes(swapped) and gradient.shape[3] < min(x.shape[3], _MANY):
        return mirror(kernel_gradient(gradient, x, swapped, forward), 1)
    (height, width), (down, right) = geometry.kernel_size, geometry.stride
    (top, _), (left, _) = geometry.sides
    below, beyond = _reach_beyond(geometry)
    x = x[:, : x.shape[1] + min(below, 0), : x.shape[2] + min(beyond, 0)]
    images, _, _, channels = x.shape
    turned = Geometry(
        size=(x.shape[1], x.shape[2] * channels),
        kernel_size=geometry.output,
        stride=(geometry.dilation[0], 1),
        sides=((top, max(below, 0)), (left * channels, max(beyond, 0) * channels)),
        dilation=(down, right * channels),
        groups=1,
    )
    picture = _images_last(x).reshape(1, *turned.size, images)
    taps = forward(picture, gradient, turned, kernel_layout="IHWO")
    return taps.reshape(height, width, channels, gradient.shape[3])


def _images_last(x: Array) -> Array:
    """[B,H,W,C] to [H,W,C,B]: first the pixels change places, then, a part of the rows at a time, images and channels.

    Either goes through the cache line by line; in one step, as XLA would merge them but for the loop, every line is
    read once for each channel, and what computes x is computed again.
    """
    images, height, width, channels = x.shape
    parts = next(n for n in range(min(_PARTS, height), 0, -1) if height % n == 0)
    pixels = x.transpose(1, 2, 0, 3).reshape(parts, height // parts * width, images, channels)
    # A buffer that starts with a number of x: zeros, shared by all layers, would be copied for each.
    start = jnp.broadcast_to(x[0, 0, 0, 0], (parts, pixels.shape[1], channels, images))

    def turn(part: Array, turned: Array) -> Array:
        return jax.lax.dynamic_update_index_in_dim(turned, pixels[part].swapaxes(1, 2), part, 0)

    return jax.lax.fori_loop(0, parts, turn, start).reshape(height, width, channels, images)


def _reach_beyond(geometry: Geometry) -> tuple[int, int]:
    """How far the windows reach below and to the right of the map; less than nothing where they leave pixels out."""
    below, right = (
        (geometry.output[i] - 1) * geometry.stride[i]
        + geometry.dilation[i] * (geometry.kernel_size[i] - 1)
        + 1
        - geometry.sides[i][0]
        - geometry.size[i]
        for i in (0, 1)
    )
    return below, right
