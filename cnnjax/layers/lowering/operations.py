# SPDX-License-Identifier: Apache-2.0
"""Convolution, its input gradient and its kernel gradient as bilinear jax primitives.

Each is the derivative of the others, so that forward and reverse mode of any order, and their mixtures, need no more:

  forward(x, kernel)            to x: input_gradient(ct, kernel)    to kernel: kernel_gradient(x, ct)
  input_gradient(g, kernel)     to g: forward(ct, kernel)           to kernel: kernel_gradient(ct, g)
  kernel_gradient(x, g)         to x: input_gradient(g, ct)         to g: forward(x, ct)

`trained_forward` is what a forward convolution becomes when it is differentiated: the same, and by the same name in a
traced program, but known as part of a training step to `choice`.

On a CPU each is lowered by `choice`; elsewhere, on several devices and in an exported program by `native`. Arrays may
have a leading axis of members (what `vmap` over both arrays makes): as many convolutions side by side.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from cnnjax.layers.lowering import choice, native
from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.types import Array

Kind = Literal["forward", "trained_forward", "input_gradient", "kernel_gradient"]
Shape = tuple[int, ...]

Way = Callable[[Array, Array, Geometry], Array]

_FORWARD: tuple[Kind, ...] = ("forward", "trained_forward")
_NATIVE: dict[Kind, Way] = {
    "forward": native.forward,
    "trained_forward": native.forward,
    "input_gradient": native.input_gradient,
    "kernel_gradient": native.kernel_gradient,
}
_CHOICES: dict[Kind, Callable[..., Way]] = {
    "forward": choice.choose_forward,
    "trained_forward": choice.choose_trained_forward,
    "input_gradient": choice.choose_input_gradient,
    "kernel_gradient": choice.choose_kernel_gradient,
}
# To the first and to the second operand: which operation, of which of (cotangent, first, second).
_TRANSPOSES: dict[Kind, tuple[tuple[Kind, int, int], tuple[Kind, int, int]]] = {
    "forward": (("input_gradient", 0, 2), ("kernel_gradient", 1, 0)),
    "trained_forward": (("input_gradient", 0, 2), ("kernel_gradient", 1, 0)),
    "input_gradient": (("trained_forward", 0, 2), ("kernel_gradient", 0, 1)),
    "kernel_gradient": (("input_gradient", 2, 0), ("trained_forward", 1, 0)),
}


def convolve(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Cross-correlates x [B,H,W,C] with kernel [h,w,C/groups,F] to [B,H',W',F].

    Raises:
      TypeError: the arrays are not of one floating-point type.
    """
    if x.dtype != kernel.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"a convolution needs two arrays of one floating-point type, not {x.dtype} and {kernel.dtype}")
    return _bind("forward", x, kernel, geometry)


def _bind(kind: Kind, first: Any, second: Any, geometry: Geometry) -> Any:
    members = jnp.ndim(first) == 5
    params = _lax_params(geometry) if kind in _FORWARD and not members else {"geometry": geometry}
    return _PRIMITIVES[kind, members].bind(first, second, **params)


def _lax_params(geometry: Geometry) -> dict[str, Any]:
    """The parameters that `jax.lax`'s own primitive would have: readers of a traced program know them."""
    numbers = jax.lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), native.LAYOUT)
    return {
        "window_strides": geometry.stride,
        "padding": geometry.sides,
        "lhs_dilation": (1, 1),
        "rhs_dilation": geometry.dilation,
        "dimension_numbers": numbers,
        "feature_group_count": geometry.groups,
        "batch_group_count": 1,
        "precision": None,
        "preferred_element_type": None,
    }


def _read_geometry(shapes: Sequence[Shape], params: dict[str, Any]) -> Geometry:
    if "geometry" in params:
        return params["geometry"]
    (_, height, width, _), kernel = shapes
    stride, sides, dilation = params["window_strides"], params["padding"], params["rhs_dilation"]
    return Geometry((height, width), (kernel[0], kernel[1]), stride, sides, dilation, params["feature_group_count"])


def _result(kind: Kind, first: Shape, second: Shape, geometry: Geometry) -> Shape:
    if kind in _FORWARD:
        return (*first[:-3], *geometry.output, second[-1])
    if kind == "input_gradient":
        return (*first[:-3], *geometry.size, second[-2] * geometry.groups)
    return (*first[:-4], *geometry.kernel_size, first[-1] // geometry.groups, second[-1])


def _abstract(kind: Kind, first: Any, second: Any, **params: Any) -> Any:
    geometry = _read_geometry((first.shape, second.shape), params)
    return first.update(shape=_result(kind, first.shape, second.shape, geometry))


def _evaluate(kind: Kind, first: Array, second: Array, **params: Any) -> Array:
    """Outside jit: as a compiled function of its own, as all of jax's operations are."""
    with jax.disable_jit(False):
        return _compiled(first, second, kind=kind, geometry=_read_geometry((first.shape, second.shape), params))


@partial(jax.jit, static_argnames=("kind", "geometry"))
def _compiled(first: Array, second: Array, *, kind: Kind, geometry: Geometry) -> Array:
    return _bind(kind, first, second, geometry)


def _transpose(kind: Kind, side: int, cotangent: Any, first: Any, second: Any, **params: Any) -> Any:
    # The operand to differentiate by is a placeholder with an `aval`.
    shapes = [x.aval.shape if i == side else x.shape for i, x in enumerate((first, second))]
    other, i, j = _TRANSPOSES[kind][side]
    operands = (cotangent, first, second)
    return _bind(other, operands[i], operands[j], _read_geometry(shapes, params))


def _batch(kind: Kind, operands: Sequence[Any], axes: Sequence[int | None], **params: Any) -> tuple[Any, int]:
    """Where one shared kernel is all there is, the batch grows; else the arrays get (more) members."""
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    front = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]
    geometry = _read_geometry([x.shape[1:] for x in front], params)
    if kind != "kernel_gradient" and axes[1] is None and front[1].ndim == 5:
        merged = _bind(kind, front[0].reshape(-1, *front[0].shape[2:]), operands[1], geometry)
        return merged.reshape(size, -1, *merged.shape[1:]), 0
    if front[0].ndim == 6:
        first, second = (x.reshape(-1, *x.shape[2:]) for x in front)
        merged = _bind(kind, first, second, geometry)
        return merged.reshape(size, -1, *merged.shape[1:]), 0
    return _bind(kind, front[0], front[1], geometry), 0


def _lower_native(kind: Kind, ctx: Any, first: Any, second: Any, **params: Any) -> Any:
    shapes = [aval.shape for aval in ctx.avals_in]
    way, geometry = _NATIVE[kind], _read_geometry(shapes, params)

    def compute(first: Array, second: Array) -> Array:
        return way(first, second, geometry)

    compute = compute if len(shapes[0]) == 4 else jax.vmap(compute)
    return mlir.lower_fun(compute, multiple_results=False)(ctx, first, second)


def _lower_cpu(kind: Kind, ctx: Any, first: Any, second: Any, **params: Any) -> Any:
    several = getattr(ctx.module_context.axis_context, "num_devices", 2) != 1
    if several or ctx.module_context.lowering_parameters.for_export:
        return _lower_native(kind, ctx, first, second, **params)
    shapes = [aval.shape for aval in ctx.avals_in]
    geometry = _read_geometry(shapes, params)
    way = _CHOICES[kind](shapes[0][-4:], shapes[1][-4:], geometry, ctx.avals_in[0].dtype)

    def compute(first: Array, second: Array) -> Array:
        if first.ndim == 4:
            return way(first, second, geometry)
        # One member after the other: their kernels differ, so that no larger product is to be had.
        return jax.lax.map(lambda pair: way(pair[0], pair[1], geometry), (first, second))

    return mlir.lower_fun(compute, multiple_results=False)(ctx, first, second)


def _make(kind: Kind, members: bool) -> Primitive:
    # The plain convolution is what `jax.lax` calls by this name, with the same parameters.
    plain = "conv_general_dilated" if kind in _FORWARD else f"conv_{kind}"
    primitive = Primitive(f"{plain}_members" if members else plain)
    primitive.def_impl(partial(_evaluate, kind))
    primitive.def_abstract_eval(partial(_abstract, kind))
    ad.defbilinear(primitive, partial(_transpose, kind, 0), partial(_transpose, kind, 1))
    batching.primitive_batchers[primitive] = partial(_batch, kind)
    mlir.register_lowering(primitive, partial(_lower_native, kind))
    mlir.register_lowering(primitive, partial(_lower_cpu, kind), platform="cpu")
    return primitive


_PRIMITIVES = {(kind, members): _make(kind, members) for kind in _TRANSPOSES for members in (False, True)}
for members in (False, True):
    ad.primitive_jvps[_PRIMITIVES["forward", members]] = ad.primitive_jvps[_PRIMITIVES["trained_forward", members]]
