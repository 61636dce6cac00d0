# SPDX-License-Identifier: Apache-2.0
"""The lectures' layers as pure functions on NHWC arrays, with Flax Linen modules where there are parameters."""

from cnnjax.layers.conv import Conv, conv2d
from cnnjax.layers.norm import BatchNorm, batch_norm, local_response_norm
from cnnjax.layers.pool import adaptive_avg_pool2d, avg_pool2d, global_avg_pool2d, max_pool2d

__all__ = [
    "BatchNorm",
    "Conv",
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "global_avg_pool2d",
    "local_response_norm",
    "max_pool2d",
]
