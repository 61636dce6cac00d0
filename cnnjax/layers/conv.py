# SPDX-License-Identifier: Apache-2.0
"""Convolution with the full signature of the lectures (PyTorch's `Conv2d`), NHWC.

What every framework calls convolution is cross-correlation: O[y,x,c'] = sum over i,j,c of X[y+i, x+j, c] w[i,j,c,c'].
"""

from typing import Any

import flax.linen as nn

from cnnjax.errors import UsageError
from cnnjax.layers.lowering import Geometry, convolve
from cnnjax.layers.naming import errors_name
from cnnjax.layers.sizes import Padding, Size, make_window, pair
from cnnjax.types import Array


def conv2d(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Array:
    """Cross-correlates each image with each filter.

    Args:
      x: [B,H,W,C].
      kernel: [h,w,C/groups,F], of x's dtype.
      bias: [F], or None.
      stride: pixels from one window to the next; a number or (height, width), as `dilation`.
      padding: zeros around the map: a number, (height, width), ((top, bottom), (left, right)), 'same' or 'valid'.
      dilation: pixels from one tap of the kernel to the next.
      groups: parts that the channels are split into; the filters of a part see its channels alone.

    Returns:
      [B,H',W',F], H' = floor((H + top + bottom - dilation * (h - 1) - 1) / stride) + 1.

    Raises:
      UsageError: sizes that do not fit each other.
    """
    window = make_window(x.shape[1:-1], kernel.shape[:2], stride=stride, padding=padding, dilation=dilation)
    check_channels(x.shape[-1], kernel, groups)
    sizes = (int(x.shape[1]), int(x.shape[2]))
    geometry = Geometry(sizes, window.kernel_size, window.stride, window.sides, window.dilation, groups)
    out = convolve(x, kernel, geometry)
    return out if bias is None else out + bias.reshape(1, 1, 1, -1)


def check_groups(channels: int, features: int, groups: int) -> None:
    """Raises UsageError unless `groups` divides the channels that go in and those that come out."""
    if groups < 1 or channels % groups or features % groups:
        raise UsageError(
            f"groups = {groups} must divide both the {channels} channels that go in and the {features} that come out"
        )


def check_channels(channels: int, kernel: Array, groups: int) -> None:
    """Raises UsageError unless a map of `channels` suits the kernel [h,w,C/groups,F]."""
    check_groups(channels, kernel.shape[-1], groups)
    if kernel.shape[2] * groups != channels:
        raise UsageError(f"the kernel sees {kernel.shape[2]} x {groups} channels (x groups), the map has {channels}")


class Conv(nn.Module):
    """`conv2d` with parameters `kernel` [h,w,C/groups,features] and, unless switched off, `bias` [features]."""

    features: int
    kernel_size: Size
    stride: Size = 1
    padding: Padding = 0
    dilation: Size = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Any = nn.initializers.he_normal()
    bias_init: Any = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B,H,W,C] to [B,H',W',features]; a size that does not fit is told with this layer's name."""
        with errors_name(self):
            check_groups(x.shape[-1], self.features, self.groups)
            shape = (*pair(self.kernel_size, "kernel_size"), x.shape[-1] // self.groups, self.features)
            kernel = self.param("kernel", self.kernel_init, shape, x.dtype)
            bias = self.param("bias", self.bias_init, (self.features,), x.dtype) if self.use_bias else None
            options = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}
            return conv2d(x, kernel, bias, **options)
