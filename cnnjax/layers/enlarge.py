# SPDX-License-Identifier: Apache-2.0
"""Pixels repeated, then a 3x3 convolution: how a decoder enlarges its maps without transposed convolution.

Each result sees a 2x2 block of the map before it was enlarged, only with taps added up that fall on the same pixel.
So the four results of a pixel are four channels of one 2x2 convolution of the small map (Shi et al. 2016,
arXiv:1609.05158, section 3.2): 16 multiplications in place of 36, and no enlarged map.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cnnjax.layers.conv import check_channels, conv2d
from cnnjax.layers.naming import errors_name
from cnnjax.types import Array

_MANY = 64  # features; so many fill a processor's vectors by themselves, and the border's extra windows cost the gain


def repeat_pixels(x: Array) -> Array:
    """[B,H,W,C] to [B,2H,2W,C], each pixel as 2x2 equal ones."""
    # On a CPU repeating is faster than jax.image.resize(..., "nearest"), and so is its gradient.
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def enlarge_conv2d(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """`conv2d(repeat_pixels(x), kernel, bias, padding=1)`, up to the order of sums.

    Args:
      x: [B,H,W,C].
      kernel: [3,3,C,F], of x's dtype.
      bias: [F], or None.

    Returns:
      [B,2H,2W,F].

    Raises:
      UsageError: the kernel is for another number of channels.
    """
    check_channels(x.shape[-1], kernel, 1)
    batch, height, width, _ = x.shape
    features = kernel.shape[-1]
    if features >= _MANY:
        return conv2d(repeat_pixels(x), kernel, bias, padding=1)
    blocks = [block for rows in _add_up(kernel, 0) for block in _add_up(rows, 1)]
    # Window (y, x) of the padded map ends at pixel (y, x): it has the upper left result of that pixel, and of those
    # before it the lower and right ones.
    seen = conv2d(x, jnp.concatenate(blocks, -1), padding=1).reshape(batch, height + 1, width + 1, 4, features)
    left, right = ([seen[:, i : i + height, j : j + width, 2 * i + j] for i in (0, 1)] for j in (0, 1))
    rows = [jnp.stack(columns, 3) for columns in zip(left, right, strict=True)]  # [B,H,W,2,F]
    out = jnp.stack(rows, 2).reshape(batch, 2 * height, 2 * width, features)
    return out if bias is None else out + bias.reshape(1, 1, 1, -1)


def _add_up(taps: Array, axis: int) -> list[Array]:
    """Three taps of an enlarged map as two of the small one, for the first and the second result of a pixel."""
    first, second, third = jnp.split(taps, 3, axis)
    return [jnp.concatenate([first, second + third], axis), jnp.concatenate([first + second, third], axis)]


class EnlargeConv(nn.Module):
    """`enlarge_conv2d` with parameters `kernel` [3,3,C,features] and `bias` [features]."""

    features: int
    kernel_init: Any = nn.initializers.he_normal()
    bias_init: Any = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B,H,W,C] to [B,2H,2W,features]."""
        with errors_name(self):
            kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features), x.dtype)
            return enlarge_conv2d(x, kernel, self.param("bias", self.bias_init, (self.features,), x.dtype))
