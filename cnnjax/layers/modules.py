# SPDX-License-Identifier: Apache-2.0
"""Pooling as Flax Linen modules: no parameters, but a size that does not fit is told with the layer's name."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from cnnjax.layers.adaptive import adaptive_avg_pool2d, adaptive_max_pool2d, global_avg_pool2d, global_max_pool2d
from cnnjax.layers.naming import errors_name
from cnnjax.layers.pool import avg_pool2d, max_pool2d, weighted_avg_pool2d
from cnnjax.layers.sizes import Padding, Size
from cnnjax.layers.unpool import max_unpool2d
from cnnjax.types import Array


class MaxPool(nn.Module):
    """`max_pool2d`; with `return_indices` the call gives (values, indices)."""

    kernel_size: Size
    stride: Size | None = None
    padding: Padding = 0
    dilation: Size = 1
    ceil_mode: bool = False
    return_indices: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Any:
        """Maps [B,H,W,C] to [B,H',W',C], or to a pair of them."""
        options = {"padding": self.padding, "dilation": self.dilation, "ceil_mode": self.ceil_mode}
        with errors_name(self):
            return max_pool2d(x, self.kernel_size, self.stride, return_indices=self.return_indices, **options)


class MaxUnpool(nn.Module):
    """`max_unpool2d`."""

    kernel_size: Size
    stride: Size | None = None
    padding: Padding = 0
    output_size: Size | None = None

    @nn.compact
    def __call__(self, x: Array, indices: Array) -> Array:
        """Maps [B,H',W',C] and the indices of a pooling to [B,H,W,C]."""
        options = {"padding": self.padding, "output_size": self.output_size}
        with errors_name(self):
            return max_unpool2d(x, indices, self.kernel_size, self.stride, **options)


class AvgPool(nn.Module):
    """`avg_pool2d`."""

    kernel_size: Size
    stride: Size | None = None
    padding: Padding = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B,H,W,C] to [B,H',W',C]."""
        with errors_name(self):
            return avg_pool2d(
                x,
                self.kernel_size,
                self.stride,
                padding=self.padding,
                ceil_mode=self.ceil_mode,
                count_include_pad=self.count_include_pad,
                divisor_override=self.divisor_override,
            )


class WeightedAvgPool(nn.Module):
    """`weighted_avg_pool2d` with fixed weights, rows of numbers."""

    weights: Sequence[Sequence[float]]
    stride: Size | None = None
    padding: Padding = 0
    ceil_mode: bool = False
    count_include_pad: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B,H,W,C] to [B,H',W',C]."""
        with errors_name(self):
            return weighted_avg_pool2d(
                x,
                self.weights,
                self.stride,
                padding=self.padding,
                ceil_mode=self.ceil_mode,
                count_include_pad=self.count_include_pad,
            )


class GlobalAvgPool(nn.Module):
    """`global_avg_pool2d`."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B,H,W,C] to [B,C]."""
        return global_avg_pool2d(x)


class GlobalMaxPool(nn.Module):
    """`global_max_pool2d`."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B,H,W,C] to [B,C]."""
        return global_max_pool2d(x)


class AdaptiveAvgPool(nn.Module):
    """`adaptive_avg_pool2d`."""

    output_size: Size

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B,H,W,C] to [B,h,w,C]."""
        with errors_name(self):
            return adaptive_avg_pool2d(x, self.output_size)


class AdaptiveMaxPool(nn.Module):
    """`adaptive_max_pool2d`."""

    output_size: Size

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B,H,W,C] to [B,h,w,C]."""
        with errors_name(self):
            return adaptive_max_pool2d(x, self.output_size)
