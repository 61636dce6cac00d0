# SPDX-License-Identifier: Apache-2.0
"""The lectures' layers as pure functions on NHWC arrays, and as Flax Linen modules."""

from cnnjax.layers.adaptive import adaptive_avg_pool2d, adaptive_max_pool2d, global_avg_pool2d, global_max_pool2d
from cnnjax.layers.conv import Conv, conv2d
from cnnjax.layers.dropout import dropout
from cnnjax.layers.enlarge import EnlargeConv, enlarge_conv2d, repeat_pixels
from cnnjax.layers.filters import KERNELS, apply_filter
from cnnjax.layers.fully_connected import FullyConnected
from cnnjax.layers.im2col import col2im, conv2d_im2col, im2col
from cnnjax.layers.modules import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    MaxUnpool,
    WeightedAvgPool,
)
from cnnjax.layers.norm import BatchNorm, batch_norm, local_response_norm
from cnnjax.layers.pool import avg_pool2d, max_pool2d, weighted_avg_pool2d
from cnnjax.layers.relu import relu_of_sum
from cnnjax.layers.unpool import max_unpool2d
from cnnjax.layers.whiten import dirac, whitening_kernel

__all__ = [
    "KERNELS",
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "AvgPool",
    "BatchNorm",
    "Conv",
    "EnlargeConv",
    "FullyConnected",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "MaxPool",
    "MaxUnpool",
    "WeightedAvgPool",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "apply_filter",
    "avg_pool2d",
    "batch_norm",
    "col2im",
    "conv2d",
    "conv2d_im2col",
    "dirac",
    "dropout",
    "enlarge_conv2d",
    "global_avg_pool2d",
    "global_max_pool2d",
    "im2col",
    "local_response_norm",
    "max_pool2d",
    "max_unpool2d",
    "relu_of_sum",
    "repeat_pixels",
    "weighted_avg_pool2d",
    "whitening_kernel",
]
