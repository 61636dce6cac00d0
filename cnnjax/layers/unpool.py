# SPDX-License-Identifier: Apache-2.0
"""Max unpooling: each maximum back to where it stood (PyTorch's `MaxUnpool2d`), NHWC."""

import jax.numpy as jnp

from cnnjax.errors import UsageError
from cnnjax.layers.sizes import Padding, Size, pair, resolve_padding
from cnnjax.types import Array


def max_unpool2d(
    x: Array,
    indices: Array,
    kernel_size: Size,
    stride: Size | None = None,
    *,
    padding: Padding = 0,
    output_size: Size | None = None,
) -> Array:
    """Puts each value where its index says, zeros elsewhere: the partial inverse of `max_pool2d`.

    Args:
      x: [B,H',W',C].
      indices: int32 [B,H',W',C], y * W + x in the map that is made, as `max_pool2d(..., return_indices=True)` gives
        them; those outside it are dropped. Overlapping windows name a pixel twice, with the same value.
      kernel_size: of the pooling that is undone, as the next two.
      stride: None: the window itself.
      padding: as for `max_pool2d`.
      output_size: (H, W) of the map; None: (H' - 1) * stride - padding on both sides + window. Several sizes pool to
        H', W': give the pooled map's own where its windows left pixels over, since the indices count in its width.

    Returns:
      [B,H,W,C] of x's dtype.

    Raises:
      UsageError: `indices` has another shape than `x`, or `output_size` is a whole stride or more away from that of
        None.
    """
    if indices.shape != x.shape:
        raise UsageError(f"indices have the shape {indices.shape} and the values {x.shape}; give one index a value")
    window = pair(kernel_size, "kernel_size")
    strides = window if stride is None else pair(stride, "stride")
    sides = resolve_padding(padding, window, stride=strides)
    batch, *pooled, channels = x.shape
    usual = [(n - 1) * s - low - high + k for n, s, (low, high), k in zip(pooled, strides, sides, window, strict=True)]
    size = usual if output_size is None else pair(output_size, "output_size")
    if min(size) < 1 or any(abs(given - u) >= s for given, u, s in zip(size, usual, strides, strict=True)):
        raise UsageError(
            f"output_size {size[0]}x{size[1]} does not pool to {pooled[0]}x{pooled[1]}; "
            f"it must differ from {usual[0]}x{usual[1]} by less than the stride {strides[0]}x{strides[1]}"
        )
    rows, channel = jnp.arange(batch)[:, None, None], jnp.arange(channels)[None, None, :]
    flat = jnp.zeros((batch, size[0] * size[1], channels), x.dtype)
    flat = flat.at[rows, indices.reshape(batch, -1, channels), channel].set(x.reshape(batch, -1, channels), mode="drop")
    return flat.reshape(batch, *size, channels)
