# SPDX-License-Identifier: Apache-2.0
"""Max and average pooling with the full signature of the lectures (PyTorch's), NHWC; each map is pooled by itself.

Padding is never a maximum: it counts as -infinity there, and as zero in an average. As in PyTorch it may be at most
half the window, so that every window sees the map.
"""

from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import UsageError
from cnnjax.layers.pool_gradient import lowest, max_windows, on_maps, sum_windows
from cnnjax.layers.sizes import Padding, Size, Window, make_window
from cnnjax.types import Array


@overload
def max_pool2d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    *,
    padding: Padding = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> Array: ...


@overload
def max_pool2d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    *,
    padding: Padding = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: Literal[True],
) -> tuple[Array, Array]: ...


def max_pool2d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    *,
    padding: Padding = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Array]:
    """The largest value of each window; where it stands twice, the gradient goes to the first in reading order.

    Args:
      x: [B,H,W,C], floating-point or integer. NaN is larger than any number.
      kernel_size: a number or (height, width), as `stride` and `dilation`.
      stride: pixels from one window to the next; None: the window itself.
      padding: a number, (height, width) or ((top, bottom), (left, right)); at most half the window.
      dilation: pixels from one tap of the window to the next.
      ceil_mode: a last window may stick out at the bottom and right, if it starts inside the map or in the padding
        before it.
      return_indices: also where each maximum stands, for `max_unpool2d`.

    Returns:
      [B,H',W',C] of x's dtype; with `return_indices` also int32 [B,H',W',C]: y * W + x of the maximum in the input
      map without its padding, PyTorch's convention (H * W for a dilated window whose taps all miss a small map).

    Raises:
      UsageError: the window does not fit, or the padding is more than half of it.
    """
    window = _pool_window(x, kernel_size, stride, padding, dilation, ceil_mode)
    if not return_indices and window.dilation == (1, 1):
        return max_windows(x, window)
    # JAX has no gradient of dilated windows: find where the maxima stand, then take them from there.
    indices = _argmax(jax.lax.stop_gradient(x), window)
    batch, height, width, channels = x.shape
    flat = jnp.take_along_axis(
        x.reshape(batch, height * width, channels),
        indices.reshape(batch, -1, channels),
        axis=1,
        mode="fill",
        fill_value=lowest(x.dtype).item(),
    )
    values = flat.reshape(indices.shape)
    return (values, indices) if return_indices else values


def avg_pool2d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    *,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """The mean of each window.

    Args:
      x: [B,H,W,C], floating-point or integer; summed in float32 at least.
      kernel_size: a number or (height, width), as `stride`.
      stride: pixels from one window to the next; None: the window itself.
      padding: zeros around the map, in the forms that `max_pool2d` takes; at most half the window.
      ceil_mode: as for `max_pool2d`; what sticks out beyond the padding never counts.
      count_include_pad: divide by the pixels of map and padding; False: by those of the map alone.
      divisor_override: divide every sum by this number instead (1: sums).

    Returns:
      [B,H',W',C] of x's dtype, float32 for integers.

    Raises:
      UsageError: the window does not fit, the padding is more than half of it, or the divisor is zero.
    """
    if divisor_override == 0:
        raise UsageError("divisor_override is 0; give what each window's sum is divided by")
    window = _pool_window(x, kernel_size, stride, padding, 1, ceil_mode)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    total = sum_windows(wide, window)
    divisor = _num_pixels(x.shape[1:3], window, count_include_pad) if divisor_override is None else divisor_override
    mean = total / jnp.asarray(divisor, wide.dtype)
    return mean.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else mean


def weighted_avg_pool2d(
    x: Array,
    weights: Any,
    stride: Size | None = None,
    *,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The weighted mean of each window: sum of weight * value over sum of weights, the same for every map.

    Equal weights give `avg_pool2d`. Differentiable in `x` and in `weights`.

    Args:
      x: [B,H,W,C], floating-point or integer; summed in float32 at least.
      weights: [h,w], array or nested sequence of numbers, not summing to zero over a window; only their ratios matter.
      stride: as for `avg_pool2d`, and so the next three; None: the window itself.
      padding: zeros around the map.
      ceil_mode: a last window may stick out; what lies beyond the padding has no weight.
      count_include_pad: the padding has its weight; False: none.

    Returns:
      [B,H',W',C] of x's dtype, float32 for integers.

    Raises:
      UsageError: as `avg_pool2d`; or `weights` is no matrix, or sums to zero.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    kernel = jnp.asarray(weights, wide.dtype)
    if kernel.ndim != 2:
        raise UsageError(f"weights have the shape {kernel.shape}; give a matrix (height, width)")
    window = _pool_window(x, kernel.shape, stride, padding, 1, ceil_mode)
    if not isinstance(weights, jax.Array) and np.sum(weights) == 0:  # a traced value cannot be looked at
        raise UsageError("weights sum to zero; a weighted mean needs weights with another sum")
    maps = jnp.moveaxis(wide, 3, 1).reshape(-1, *x.shape[1:3], 1)  # [B*C,H,W,1]: each map by itself
    (top, bottom), (left, right) = window.sides if count_include_pad else ((0, 0), (0, 0))
    counted = jnp.ones((1, top + x.shape[1] + bottom, left + x.shape[2] + right, 1), wide.dtype)
    outside = tuple(
        (reach[0] - low, reach[1] - high)
        for reach, (low, high) in zip(window.reach, ((top, bottom), (left, right)), strict=True)
    )
    mean = _correlate(maps, kernel, window.stride, window.reach) / _correlate(counted, kernel, window.stride, outside)
    mean = jnp.moveaxis(mean.reshape(x.shape[0], x.shape[3], *window.output), 1, 3)
    return mean.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else mean


def _pool_window(
    x: Array, kernel_size: Size, stride: Size | None, padding: Padding, dilation: Size, ceil_mode: bool
) -> Window:
    stride = kernel_size if stride is None else stride
    window = make_window(
        x.shape[1:-1], kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    for length, sides in zip(window.kernel_size, window.sides, strict=True):
        if max(sides) > length // 2:
            raise UsageError(f"padding {max(sides)} is more than half of the window's {length}; make it {length // 2}")
    return window


def _argmax(x: Array, window: Window) -> Array:
    """int32 [B,H',W',C]: y * W + x of each window's maximum, the first of equals; the last NaN, if there is one."""
    height, width = x.shape[1:3]
    place = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1) * width + jax.lax.broadcasted_iota(jnp.int32, x.shape, 2)

    def larger(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        (value_a, place_a), (value_b, place_b) = a, b
        nan_a, nan_b = value_a != value_a, value_b != value_b
        earlier = (value_a > value_b) | ((value_a == value_b) & (place_a < place_b))
        take_a = jnp.where(nan_a | nan_b, nan_a & (~nan_b | (place_a > place_b)), earlier)
        return jnp.where(take_a, value_a, value_b), jnp.where(take_a, place_a, place_b)

    start = (lowest(x.dtype), np.int32(height * width))
    return jax.lax.reduce_window((x, place), start, larger, *on_maps(window))[1]


def _num_pixels(size: tuple[int, ...], window: Window, count_include_pad: bool) -> np.ndarray:
    """[1,H',W',1]: the pixels of each window that count."""
    counts = []
    for axis, length in enumerate(size):
        low, high = window.sides[axis]
        first = np.arange(window.output[axis]) * window.stride[axis] - low
        last = np.minimum(first + window.kernel_size[axis], length + high)
        counts.append(last - first if count_include_pad else np.minimum(last, length) - np.maximum(first, 0))
    return np.multiply.outer(*counts)[None, :, :, None]


def _correlate(maps: Array, kernel: Array, stride: tuple[int, int], sides: Any) -> Array:
    """[N,H,W,1] with one kernel [h,w]: [N,H',W',1], in full precision on every device."""
    return jax.lax.conv_general_dilated(
        maps,
        kernel[:, :, None, None],
        stride,
        sides,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
