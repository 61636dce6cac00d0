# SPDX-License-Identifier: Apache-2.0
"""Normalisation: batch normalisation and AlexNet's local response normalisation."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnjax.errors import UsageError
from cnnjax.types import Array


def batch_norm(x: Array, scale: Array, bias: Array, mean: Array, var: Array, *, epsilon: float = 1e-5) -> Array:
    """(x - mean) / sqrt(var + epsilon) * scale + bias over the last axis.

    Computed in float32 at least, whatever x's dtype, and the mean taken off first: x * factor + (bias - mean * factor)
    would be the difference of two large numbers where the mean is large beside the deviation.

    Args:
      x: [..., C], floating-point.
      scale: [C], as the next three.
      bias: what the mean becomes.
      mean: of each channel.
      var: of each channel, 0 or more.
      epsilon: added to `var`.

    Returns:
      [..., C] of x's dtype.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    scale, bias, mean, var = (
        jnp.expand_dims(jnp.asarray(value, wide), tuple(range(x.ndim - 1))) for value in (scale, bias, mean, var)
    )
    return ((x.astype(wide) - mean) * (scale * jax.lax.rsqrt(var + epsilon)) + bias).astype(x.dtype)


# Jitted inline: traced once for each shape and not for each layer, the program is the same (half of a ResNet's trace).
@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
@functools.partial(jax.jit, static_argnums=3, inline=True)
def normalise_batch(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """`batch_norm` by the batch's own moments.

    The derivative is written out: what mean and variance contribute is folded into two numbers a channel, so that the
    backward pass reads the maps twice, for two sums and for the result, where the one that JAX derives needs four
    sums (docs/step.md has the times).

    Args:
      x: [..., C], floating-point.
      scale: [C].
      bias: [C].
      epsilon: added to the variance.

    Returns:
      ([..., C] of x's dtype, mean [C], biased variance [C]), the moments in float32 at least.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # sums of thousands need float32's digits
    mean = _channel_means(wide)
    var = jax.lax.platform_dependent(wide, mean, cpu=_variance_in_one_pass, default=_variance)
    return batch_norm(x, scale, bias, mean, var, epsilon=epsilon), mean, var


@normalise_batch.defjvp
@functools.partial(jax.jit, static_argnums=0, inline=True)
def _normalise_batch_jvp(epsilon: float, primals: Any, tangents: Any) -> Any:
    (x, scale, bias), (x_dot, scale_dot, bias_dot) = primals, tangents
    out, mean, var = normalise_batch(x, scale, bias, epsilon)
    inverse = jax.lax.rsqrt(var + epsilon)
    normal = (x.astype(mean.dtype) - _like(mean, x)) * _like(inverse, x)
    wide_dot, factor = x_dot.astype(mean.dtype), scale * inverse
    mean_dot, normal_dot = _channel_means(wide_dot), _channel_means(normal * wide_dot)
    shift, stretch = bias_dot - factor * mean_dot, scale_dot - factor * normal_dot
    slope = stretch * inverse
    out_dot = _like(factor, x) * wide_dot + _like(shift - mean * slope, x) + x.astype(mean.dtype) * _like(slope, x)
    return (out, mean, var), (out_dot.astype(x.dtype), mean_dot, 2 * normal_dot / inverse)


def _variance(x: Array, mean: Array) -> Array:
    """[C] of [..., C]: the mean square of the differences."""
    return _channel_means(jnp.square(x - _like(mean, x)))


def _variance_in_one_pass(x: Array, mean: Array) -> Array:
    """The mean square less the square of the mean, which loses no digits unless the mean is far from 0.

    XLA's CPU compiler sums squares as it reads, but writes the differences to memory first.
    """
    quick = _channel_means(jnp.square(x)) - jnp.square(mean)
    return jax.lax.cond(jnp.all(16 * quick >= jnp.square(mean)), lambda *_: quick, _variance, x, mean)


def _channel_means(x: Array) -> Array:
    """[C] of [..., C]: over each image, then over the images, which a CPU can share out."""
    each = x.sum(axis=tuple(range(1, x.ndim - 1))) if x.ndim > 2 else x
    return each.sum(axis=0) / (x.size // x.shape[-1])


def _like(value: Array, x: Array) -> Array:
    """[C] as [1, ..., C], to stand beside x."""
    return value.reshape((1,) * (x.ndim - 1) + (-1,))


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Parameters `scale`, unless switched off, and `bias` [C]; state `batch_stats` with `mean` and `var` [C], float32.

    The conventions, which differ between frameworks: `momentum` is the fraction of the running average that is
    kept (0.9 is PyTorch's 0.1); a batch is normalised by its biased variance, and the unbiased one, times
    n / (n - 1), enters the running average, as in PyTorch (Flax averages the biased one).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    scale_init: Any = nn.initializers.ones
    bias_init: Any = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Normalises [..., C] by the batch's moments when training, else by the running ones."""
        size = x.shape[-1:]
        scale = self.param("scale", self.scale_init, size, jnp.float32) if self.use_scale else jnp.ones(size)
        bias = self.param("bias", self.bias_init, size, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, size, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, size, jnp.float32)
        if not train:
            return batch_norm(x, scale, bias, mean.value, var.value, epsilon=self.epsilon)
        out, now_mean, now_var = normalise_batch(x, scale, bias, self.epsilon)
        count = x.size // x.shape[-1]
        unbiased = now_var * (count / max(count - 1, 1))
        if not self.is_initializing():  # init shows shapes only: its image is no batch to learn from
            mean.value = self.momentum * mean.value + (1 - self.momentum) * now_mean
            var.value = self.momentum * var.value + (1 - self.momentum) * unbiased
        return out


def local_response_norm(x: Array, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> Array:
    """Divides each value by (k + alpha * sum of squares over `size` neighbouring channels) ** beta.

    The defaults are AlexNet's constants, and the sum is the paper's. PyTorch's `LocalResponseNorm`, as Caffe before it,
    divides alpha by `size`: its alpha is `size` times ours, and its k is 1 unless given.

    Args:
      x: [B,H,W,C], floating-point; computed in float32 at least.
      size: channels in the sum: the value's own, size // 2 before it and (size - 1) // 2 after; zeros stand in beyond
        the first and the last channel.
      alpha: weight of the sum.
      beta: exponent.
      k: added to the weighted sum.

    Returns:
      [B,H,W,C] of x's dtype.

    Raises:
      UsageError: `size` is below 1.

    Reference: Krizhevsky, Sutskever and Hinton 2012, section 3.3.
    """
    if size < 1:
        raise UsageError(f"size is {size}; local response normalisation needs 1 channel or more in its sum")
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    low = size // 2
    window, sides = (1, 1, 1, size), ((0, 0), (0, 0), (0, 0), (low, size - 1 - low))
    squares = jax.lax.reduce_window(jnp.square(wide), 0.0, jax.lax.add, window, (1, 1, 1, 1), sides)
    return (wide / (k + alpha * squares) ** beta).astype(x.dtype)
