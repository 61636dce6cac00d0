# SPDX-License-Identifier: Apache-2.0
"""Convolution as a matrix product, forward and backward, written to be read.

Every window of the map becomes a row of a matrix; one product with the matrix of filters computes all outputs:

  cols = im2col(x)               [windows, h*w*C]
  out = cols @ kernel            [windows, F]

and the chain rule gives both gradients as products too, where col2im adds each entry back to its pixel:

  kernel gradient = cols^T @ out gradient
  input gradient = col2im(out gradient @ kernel^T)

Nothing here is faster than `conv2d`, which computes the same; the rows take h * w times the memory of the map.
Reference: Chellapilla, Puri and Simard 2006, High performance convolutional neural networks for document processing.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

from cnnjax.layers.conv import check_channels
from cnnjax.layers.sizes import Padding, Size, Window, make_window
from cnnjax.types import Array


def conv2d_im2col(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Array:
    """`conv2d`, arguments and result, computed as a matrix product with a hand-written (reverse-mode) gradient.

    Raises:
      UsageError: sizes that do not fit each other.
    """
    window = make_window(x.shape[1:-1], kernel.shape[:2], stride=stride, padding=padding, dilation=dilation)
    check_channels(x.shape[-1], kernel, groups)
    out = _convolve(window, groups, x, kernel)
    return out if bias is None else out + bias.reshape(1, 1, 1, -1)


def im2col(x: Array, kernel_size: Size, *, stride: Size = 1, padding: Padding = 0, dilation: Size = 1) -> Array:
    """Each window of the map as a row.

    Args:
      x: [B,H,W,C].
      kernel_size: a number or (height, width), as `stride` and `dilation`.
      stride: pixels from one window to the next.
      padding: in the forms that `conv2d` takes.
      dilation: pixels from one tap to the next.

    Returns:
      [B,H',W',h*w*C]: the pixels of the window in reading order, the channels of each together, which is the order
      of a kernel [h,w,C,F] reshaped to [h*w*C,F].

    Raises:
      UsageError: the window does not fit.
    """
    return _rows(x, make_window(x.shape[1:-1], kernel_size, stride=stride, padding=padding, dilation=dilation))


def col2im(
    cols: Array,
    size: Sequence[int],
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
) -> Array:
    """Adds each entry of the rows to the pixel that it was taken from: the transpose of `im2col`, not its inverse.

    Args:
      cols: [B,H',W',h*w*C].
      size: (H, W) of the map.
      kernel_size: as for `im2col`, and so the next three.
      stride: pixels from one window to the next.
      padding: what falls on it is dropped.
      dilation: pixels from one tap to the next.

    Returns:
      [B,H,W,C].

    Raises:
      UsageError: the window does not fit.
    """
    return _pixels(cols, size, make_window(size, kernel_size, stride=stride, padding=padding, dilation=dilation))


def _rows(x: Array, window: Window) -> Array:
    padded = jnp.pad(x, ((0, 0), *window.sides, (0, 0)))
    return jnp.concatenate([padded[:, rows, columns] for rows, columns in _taps(window)], axis=-1)  # [B,H',W',h*w*C]


def _pixels(cols: Array, size: Sequence[int], window: Window) -> Array:
    (top, bottom), (left, right) = window.sides
    height, width = size
    taps = jnp.split(cols, window.kernel_size[0] * window.kernel_size[1], axis=-1)
    padded = jnp.zeros((cols.shape[0], top + height + bottom, left + width + right, taps[0].shape[-1]), cols.dtype)
    for (rows, columns), tap in zip(_taps(window), taps, strict=True):
        padded = padded.at[:, rows, columns].add(tap)
    return padded[:, top : top + height, left : left + width]


def _taps(window: Window) -> Iterator[tuple[slice, slice]]:
    """For each tap of the kernel, in reading order: the rows and columns of the padded map that it meets."""

    def met(tap: int, axis: int) -> slice:
        first, step = tap * window.dilation[axis], window.stride[axis]
        return slice(first, first + (window.output[axis] - 1) * step + 1, step)

    for i in range(window.kernel_size[0]):
        for j in range(window.kernel_size[1]):
            yield met(i, 0), met(j, 1)


def _product(window: Window, groups: int, x: Array, kernel: Array) -> Array:
    return _forward(window, groups, x, kernel)[0]


def _forward(window: Window, groups: int, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    cols = _split_channels(_rows(x, window), groups, x.shape[-1])  # [G,windows,h*w*C/G]
    out = cols @ _kernel_matrix(kernel, groups)  # [G,windows,F/G]
    return _join_groups(out, (x.shape[0], *window.output)), (
        x,
        kernel,
    )  # the rows are cheap to make again, dear to keep


def _backward(window: Window, groups: int, saved: tuple[Array, Array], out_gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    cols = _split_channels(_rows(x, window), groups, x.shape[-1])
    out_gradient = _split_channels(out_gradient, groups, kernel.shape[-1])  # [G,windows,F/G]

    kernel_gradient = cols.mT @ out_gradient  # [G,h*w*C/G,F/G]
    cols_gradient = out_gradient @ _kernel_matrix(kernel, groups).mT  # [G,windows,h*w*C/G]

    height, width, channels, _ = kernel.shape
    by_tap = cols_gradient.reshape(groups, -1, height * width, channels)
    in_rows = jnp.moveaxis(by_tap, 0, 2).reshape(x.shape[0], *window.output, -1)  # groups side by side within each tap
    kernel_shape = (groups, height, width, channels, -1)
    return (
        _pixels(in_rows, x.shape[1:3], window),
        jnp.moveaxis(kernel_gradient.reshape(kernel_shape), 0, 3).reshape(kernel.shape),
    )


_convolve = jax.custom_vjp(_product, nondiff_argnums=(0, 1))
_convolve.defvjp(_forward, _backward)


def _kernel_matrix(kernel: Array, groups: int) -> Array:
    """[h,w,C/G,F] -> [G,h*w*C/G,F/G]: filters as columns, the F/G of each group together."""
    height, width, channels, features = kernel.shape
    return jnp.moveaxis(kernel.reshape(height * width * channels, groups, features // groups), 1, 0)


def _split_channels(rows: Array, groups: int, channels: int) -> Array:
    """[B,H',W',taps*C] -> [G,B*H'*W',taps*C/G]: a matrix for each group of channels."""
    windows = rows.shape[0] * rows.shape[1] * rows.shape[2]
    by_group = rows.reshape(windows, -1, groups, channels // groups)
    return jnp.moveaxis(by_group, 2, 0).reshape(groups, windows, -1)


def _join_groups(matrices: Array, leading: tuple[int, ...]) -> Array:
    """[G,windows,F/G] -> [*leading,F]: the groups' results side by side."""
    return jnp.moveaxis(matrices, 0, 1).reshape(*leading, -1)
