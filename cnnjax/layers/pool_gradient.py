# SPDX-License-Identifier: Apache-2.0
"""Pooling over windows, with gradients that are quick on a CPU.

The derivative of `jax.lax.reduce_window` is select-and-scatter for a maximum and a window over a dilated map for a
mean; XLA's CPU compiler runs both as plain scalar loops. Here the place of each maximum is found by comparing the
window's taps, slice by slice, and its gradient goes back by comparing places: dense arithmetic that vectorises.
docs/step.md has the measurements. GPUs and TPUs keep the native derivative; the values are the native ones everywhere.

The gradient goes to the first of equal maxima in reading order, as natively. The derivative is a primitive of its
own, linear, with a transpose and a batching rule: so `jax.jvp`, `jax.vjp`, second derivatives, `vmap` and loops work.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from cnnjax.layers.sizes import Window
from cnnjax.types import Array

MOST_TAPS = 64  # of a window that is compared tap by tap; the program grows with it


def on_maps(window: Window) -> tuple[Any, ...]:
    """What `jax.lax.reduce_window` needs to know of a window over [B,H,W,C]: sizes, strides, padding, dilations."""
    return (
        (1, *window.kernel_size, 1),
        (1, *window.stride, 1),
        ((0, 0), *window.reach, (0, 0)),
        (1, 1, 1, 1),
        (1, *window.dilation, 1),
    )


def max_windows(x: Array, window: Window) -> Array:
    """The maximum of each window of [B,H,W,C], padding left out: [B,H',W',C]."""
    taps = window.kernel_size[0] * window.kernel_size[1]
    if window.dilation != (1, 1) or taps > MOST_TAPS or not jnp.issubdtype(x.dtype, jnp.floating):
        return _native_max(x, window)
    return _max_windows(x, window)


def sum_windows(x: Array, window: Window) -> Array:
    """The sum of each window of [B,H,W,C], padding as zeros: [B,H',W',C]."""
    return _sum_windows(x, window) if window.kernel_size == window.stride else _native_sum(x, window)


def lowest(dtype: Any) -> np.ndarray:
    """What no value is below: padding that is never a maximum."""
    if jnp.issubdtype(dtype, jnp.floating):
        return np.array(-np.inf, dtype)
    return np.array(False if dtype == jnp.bool_ else jnp.iinfo(dtype).min, dtype)


def _native_max(x: Array, window: Window) -> Array:
    return jax.lax.reduce_window(x, lowest(x.dtype), jax.lax.max, *on_maps(window))


def _native_sum(x: Array, window: Window) -> Array:
    return jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.add, *on_maps(window))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_windows(x: Array, window: Window) -> Array:
    return _native_max(x, window)


@_max_windows.defjvp
def _max_derivative(window: Window, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    place = _place.bind(x, window=window)
    return _max_windows(x, window), _pick.bind(x, place, tangent, window=window)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _sum_windows(x: Array, window: Window) -> Array:
    return _native_sum(x, window)


@_sum_windows.defjvp
def _sum_derivative(window: Window, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Windows side by side are sums of blocks, whose transpose is a broadcast."""
    (x,), (tangent,) = primals, tangents
    (height, width), (rows, columns) = window.kernel_size, window.output
    covered = _covered(tangent, window, np.zeros((), tangent.dtype))
    blocks = covered.reshape(x.shape[0], rows, height, columns, width, x.shape[3])
    return _sum_windows(x, window), blocks.sum(axis=(2, 4))


# The place of a maximum is the number of its tap, in reading order.


def _find_place(x: Array, window: Window) -> Array:
    """int32 [B,H',W',C]: the first tap of each window that holds its maximum."""
    taps = _taps(_covered(x, window, lowest(x.dtype)), window)
    best, place = taps[0], jnp.zeros(taps[0].shape, jnp.int32)
    for number, tap in enumerate(taps[1:], start=1):
        keep = best >= tap
        best, place = jnp.where(keep, best, tap), jnp.where(keep, place, number)
    return place


def _pick_places(x: Array, place: Array, tangent: Array, window: Window) -> Array:
    """[B,H',W',C] of [B,H,W,C]: the value at each window's place."""
    del x
    taps = _taps(_covered(tangent, window, np.zeros((), tangent.dtype)), window)
    zero = jnp.zeros((), tangent.dtype)
    return functools.reduce(jnp.add, (jnp.where(place == number, tap, zero) for number, tap in enumerate(taps)))


def _put_places(x: Array, place: Array, gradient: Array, window: Window) -> Array:
    """[B,H,W,C] of [B,H',W',C]: each window's value at its place, added where windows share one."""
    put = _put_apart if window.kernel_size == window.stride else _put_across
    covered = put(place, gradient, window)
    (top, _), (left, _) = window.reach
    beyond = (x.shape[1] + top - covered.shape[1], x.shape[2] + left - covered.shape[2])
    sides = ((0, 0, 0), (-top, beyond[0], 0), (-left, beyond[1], 0), (0, 0, 0))
    return jax.lax.pad(covered, np.zeros((), covered.dtype), sides)


def _put_apart(place: Array, gradient: Array, window: Window) -> Array:
    """Windows side by side: one comparison over [B,H',h,W',w,C]."""
    (height, width), (batch, rows, columns, channels) = window.kernel_size, gradient.shape
    number = jnp.arange(height * width, dtype=jnp.int32).reshape(1, 1, height, 1, width, 1)
    here = place[:, :, None, :, None] == number
    blocks = jnp.where(here, gradient[:, :, None, :, None], jnp.zeros((), gradient.dtype))
    return blocks.reshape(batch, rows * height, columns * width, channels)


def _put_across(place: Array, gradient: Array, window: Window) -> Array:
    """Any windows: the pixels of each phase, y = phase (mod stride), are written by few taps, at whole-window shifts.

    So each phase is a sum over its taps of shifted maps, and the map is the phases interleaved.
    """
    (height, width), (down, right) = window.kernel_size, window.stride
    batch, rows, columns, channels = gradient.shape
    more_rows, more_columns = -(-height // down) - 1, -(-width // right) - 1  # windows that share a pixel, less one
    zero = np.zeros((), gradient.dtype)
    border = ((0, 0, 0), (more_rows, more_rows, 0), (more_columns, more_columns, 0), (0, 0, 0))
    gradient, place = jax.lax.pad(gradient, zero, border), jax.lax.pad(place, np.int32(-1), border)

    def shifted(i: int, j: int) -> Array:
        top, left = more_rows - i // down, more_columns - j // right
        start = (0, top, left, 0)
        end = (batch, top + rows + more_rows, left + columns + more_columns, channels)
        here = jax.lax.slice(place, start, end) == i * width + j
        return jnp.where(here, jax.lax.slice(gradient, start, end), jnp.asarray(zero))

    size = (batch, rows + more_rows, columns + more_columns, channels)
    lines = []
    for y in range(down):
        line = []
        for x in range(right):
            parts = [shifted(i, j) for i in range(y, height, down) for j in range(x, width, right)]
            line.append(functools.reduce(jnp.add, parts) if parts else jnp.zeros(size, gradient.dtype))
        lines.append(jnp.stack(line, axis=3).reshape(batch, size[1], size[2] * right, channels))
    return jnp.stack(lines, axis=2).reshape(batch, size[1] * down, size[2] * right, channels)


def _covered(x: Array, window: Window, fill: np.ndarray) -> Array:
    """The map as far as the windows reach: [B,(H'-1)*stride+h,(W'-1)*stride+w,C]."""
    sides = []
    for axis, (low, _) in enumerate(window.reach):
        length = (window.output[axis] - 1) * window.stride[axis] + window.kernel_size[axis]
        sides.append((low, length - low - x.shape[1 + axis], 0))
    return jax.lax.pad(x, fill, ((0, 0, 0), *sides, (0, 0, 0)))


def _taps(covered: Array, window: Window) -> list[Array]:
    """[B,H',W',C] for each tap of the window in reading order."""
    (height, width), (down, right), (rows, columns) = window.kernel_size, window.stride, window.output
    batch, channels = covered.shape[0], covered.shape[3]
    return [
        jax.lax.slice(
            covered,
            (0, i, j, 0),
            (batch, i + (rows - 1) * down + 1, j + (columns - 1) * right + 1, channels),
            (1, down, right, 1),
        )
        for i in range(height)
        for j in range(width)
    ]


def _native_pick(x: Array, place: Array, tangent: Array, window: Window) -> Array:
    del place
    return jax.jvp(lambda x: _native_max(x, window), (x,), (tangent,))[1]


def _native_put(x: Array, place: Array, gradient: Array, window: Window) -> Array:
    del place
    return jax.vjp(lambda x: _native_max(x, window), x)[1](gradient)[0]


def _primitive(name: str, function: Callable[..., Array], native: Callable[..., Array] | None = None) -> Primitive:
    """`function(*maps, window)` as a primitive over maps [B,...], with `native` in its place on GPUs and TPUs."""
    primitive = Primitive(name)

    @functools.cache
    def compiled(window: Window) -> Callable[..., Array]:
        return jax.jit(functools.partial(primitive.bind, window=window))

    def batched(operands: Sequence[Array], axes: Sequence[int | None], *, window: Window) -> tuple[Array, int]:
        count = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
        rows = []
        for x, axis in zip(operands, axes, strict=True):
            x = jnp.broadcast_to(x, (count, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
            rows.append(x.reshape(-1, *x.shape[2:]))
        out = primitive.bind(*rows, window=window)
        return out.reshape(count, -1, *out.shape[1:]), 0

    primitive.def_impl(lambda *operands, window: compiled(window)(*operands))
    primitive.def_abstract_eval(
        lambda *operands, window: ShapedArray(*_result(name, operands, window))  # the trace needs no more
    )
    batching.primitive_batchers[primitive] = batched
    lower = functools.partial(mlir.lower_fun, multiple_results=False)
    if native is None:
        mlir.register_lowering(primitive, lower(function))
    else:
        mlir.register_lowering(primitive, lower(native))
        mlir.register_lowering(primitive, lower(function), platform="cpu")
    return primitive


def _result(name: str, operands: Sequence[Any], window: Window) -> tuple[tuple[int, ...], Any]:
    x, like = operands[0], operands[-1]
    if name == "max_window_put":
        return x.shape, like.dtype
    return (x.shape[0], *window.output, x.shape[3]), jnp.dtype("int32") if name == "max_window_place" else like.dtype


_place = _primitive("max_window_place", _find_place)
_pick = _primitive("max_window_pick", _pick_places, _native_pick)
_put = _primitive("max_window_put", _put_places, _native_put)


def _no_tangent(value: Array) -> Any:
    return ad.Zero(value.aval.to_tangent_aval())


def _place_jvp(primals: tuple[Array], tangents: tuple[Any], *, window: Window) -> tuple[Array, Any]:
    place = _place.bind(*primals, window=window)
    return place, _no_tangent(place)


def _linear_jvp(primitive: Primitive) -> Callable[..., Any]:
    """Both are linear in their last operand, and steps, so flat, in the map that the places come from."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], *, window: Window) -> tuple[Any, Any]:
        value = primitive.bind(*primals, window=window)
        if isinstance(tangents[-1], ad.Zero):
            return value, _no_tangent(value)
        return value, primitive.bind(*primals[:-1], tangents[-1], window=window)

    return jvp


def _transpose(back: Primitive) -> Callable[..., Any]:
    def transpose(cotangent: Any, x: Any, place: Any, operand: Any, *, window: Window) -> list[Any]:
        if isinstance(cotangent, ad.Zero):
            return [None, None, ad.Zero(operand.aval)]
        return [None, None, back.bind(x, place, cotangent, window=window)]

    return transpose


ad.primitive_jvps[_place] = _place_jvp
ad.primitive_jvps[_pick] = _linear_jvp(_pick)
ad.primitive_jvps[_put] = _linear_jvp(_put)
ad.primitive_transposes[_pick] = _transpose(_put)
ad.primitive_transposes[_put] = _transpose(_pick)
