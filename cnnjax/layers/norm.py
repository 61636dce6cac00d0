# SPDX-License-Identifier: Apache-2.0
"""Normalisation: batch normalisation and AlexNet's local response normalisation."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnjax.types import Array


def batch_norm(x: Array, scale: Array, bias: Array, mean: Array, var: Array, *, epsilon: float = 1e-5) -> Array:
    """(x - mean) / sqrt(var + epsilon) * scale + bias over the last axis; the four are [C], the result x's shape."""
    shape = (1,) * (x.ndim - 1) + (-1,)
    factor = scale * jax.lax.rsqrt(var + epsilon)
    return x * factor.reshape(shape).astype(x.dtype) + (bias - mean * factor).reshape(shape).astype(x.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Parameters `scale` and `bias` [C]; state `batch_stats` with `mean` and `var` [C], float32.

    The conventions, which differ between frameworks: `momentum` is the fraction of the running average that is
    kept (0.9 is PyTorch's 0.1); a batch is normalised by its biased variance, and the unbiased one, times
    n / (n - 1), enters the running average, as in PyTorch (Flax averages the biased one).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: Any = nn.initializers.ones
    bias_init: Any = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Normalises [..., C] by the batch's moments when training, else by the running ones."""
        size = x.shape[-1:]
        scale = self.param("scale", self.scale_init, size, jnp.float32)
        bias = self.param("bias", self.bias_init, size, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, size, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, size, jnp.float32)
        if not train:
            return batch_norm(x, scale, bias, mean.value, var.value, epsilon=self.epsilon)
        axes, wide = tuple(range(x.ndim - 1)), x.astype(jnp.float32)  # sums of thousands need float32's digits
        now_mean = wide.mean(axes)
        now_var = jnp.square(wide - now_mean.reshape((1,) * (x.ndim - 1) + (-1,))).mean(axes)
        count = x.size // x.shape[-1]
        unbiased = now_var * (count / max(count - 1, 1))
        mean.value = self.momentum * mean.value + (1 - self.momentum) * now_mean
        var.value = self.momentum * var.value + (1 - self.momentum) * unbiased
        return batch_norm(x, scale, bias, now_mean, now_var, epsilon=self.epsilon)


def local_response_norm(x: Array, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> Array:
    """Divides each value by (k + alpha * sum of squares over `size` neighbouring channels) ** beta.

    [B,H,W,C] -> [B,H,W,C]. AlexNet's constants and sum (Krizhevsky et al. 2012, section 3.3); zeros stand in beyond
    the first and last channel. PyTorch's `LocalResponseNorm` divides alpha by `size`: its alpha is `size` times ours.
    """
    low = size // 2
    window, sides = (1, 1, 1, size), ((0, 0), (0, 0), (0, 0), (low, size - 1 - low))
    squares = jax.lax.reduce_window(jnp.square(x), 0.0, jax.lax.add, window, (1, 1, 1, 1), sides)
    return x / (k + alpha * squares) ** beta
