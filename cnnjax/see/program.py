# SPDX-License-Identifier: Apache-2.0
"""A network's traced program, run again with changes: gradients at any intermediate, and other rules for ReLU.

`model.apply` is traced at `train=False` into a flat list of operations, calls inlined, and the list is run with
something added at one value, or with some operations replaced. So it works for a network of any library.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.see.flat import VIEWS, Op, Program, bind, find_relus, flatten, needed, producers, run
from cnnjax.types import Array, Model, ModelState, Outputs, Params

DeltaFn = Callable[[Params, ModelState, Array, Array], Outputs]
"""`apply(params, model_state, image, delta)`: the outputs with `delta` added to one intermediate on its way."""


class Layer(NamedTuple):
    """A named intermediate.

    Attributes:
      name: its key in the outputs.
      shape: with the batch of the image it was traced with.
      reaches_logits: whether the logits depend on it; otherwise it is a dead end, and its gradient zero.
    """

    name: str
    shape: tuple[int, ...]
    reaches_logits: bool


def find_layers(model: Model, params: Params, model_state: ModelState, image: Array) -> list[Layer]:
    """The named intermediates of a network in the order in which they are computed, the logits left out.

    Args:
      model: any pair of functions.
      params: as `model.init` makes them, or their shapes.
      model_state: likewise.
      image: [B,H,W,C], or its shape.

    Raises:
      RunError: the network has no logits.
    """
    program, names = _trace(model, params, model_state, image)
    found = []
    for name, value in names.items():
        if name != "logits":
            source = _source(program, value.id, names["logits"].id)
            order = value.id if source is None else source[0]
            found.append((order, Layer(name, value.shape, source is not None)))
    return [layer for _, layer in sorted(found)]


def with_delta(model: Model, layer: str) -> DeltaFn:
    """The network with something added to an intermediate: for gradients with respect to it, and interventions.

    The gradient of a logit by `delta`, at zeros of the intermediate's shape, is that by the intermediate.

    Args:
      model: any pair of functions.
      layer: a key of its outputs. One that is only another form of a value on the way to the logits (reshaped,
        cast to float32) stands for that value.

    Returns:
      `apply(params, model_state, image, delta)`, pure; `delta` is shaped as the intermediate.

    Raises:
      When called: UsageError: there is no such output, or it does not lie on the way to the logits.
      RunError: the network has no logits.
    """

    def apply(params: Params, model_state: ModelState, image: Array, delta: Array) -> Outputs:
        program, names = _trace(model, params, model_state, image)
        if layer not in names:
            raise UsageError(unknown("layer", layer, [name for name in names if name != "logits"]))
        source = _source(program, names[layer].id, names["logits"].id)
        if source is None:
            raise UsageError(
                f"layer {layer!r} does not lie on the way to the logits, so it has no gradient; "
                "name an output that the network computes further with (inside a loop there is none)"
            )
        target, views = source
        aval = program.avals[target]

        def shown(value: Array) -> Array:
            for op in views:
                (value,) = bind(op, [value])
            return value

        # Views move numbers and lose none, so their transpose takes delta back to the form of the value itself.
        (moved,) = jax.linear_transpose(shown, jax.ShapeDtypeStruct(aval.shape, aval.dtype))(delta)
        arguments = jax.tree.leaves((params, model_state, image))
        values = run(program, arguments, bind, {target: lambda value: value + moved})
        return dict(zip(names, values, strict=True))

    return apply


def with_guided_relu(model: Model) -> Model:
    """The network with guided backpropagation's rule for every ReLU; its outputs stay the same.

    A ReLU passes the gradient on where its input and the gradient are both positive. What counts as one:
    `jax.nn.relu`, `relu6`, `relu_of_sum`, max(x, 0) and where(x > 0, x, 0), of floats, in loops and branches too; but
    not the max(variance, 0) of a normalisation.

    Reference: Springenberg et al. 2015, arXiv:1412.6806, section 3.4.
    """

    def apply(
        params: Params, model_state: ModelState, image: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, ModelState]:
        function = partial(model.apply, train=train, key=key)
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(params, model_state, image)
        values = _run_guided(flatten(traced), jax.tree.leaves((params, model_state, image)))
        return jax.tree.unflatten(jax.tree.structure(shapes), values)

    return Model(model.init, apply)


def count_relus(model: Model, params: Params, model_state: ModelState, image: Array) -> int:
    """How many ReLUs `with_guided_relu` finds on the way to the logits; one in a loop counts each turn.

    Raises:
      RunError: the network has no logits.
    """
    program, names = _trace(model, params, model_state, image)
    found = needed(program, names["logits"].id)
    return _count(program._replace(ops=[op for op in program.ops if found & set(op.outputs)]))


class _Output(NamedTuple):
    id: int
    shape: tuple[int, ...]


def _trace(model: Model, params: Params, model_state: ModelState, image: Array) -> tuple[Program, dict[str, _Output]]:
    """The program of a network's outputs, and which of its values each of them is, in the program's order."""

    def outputs(*args: Any) -> dict[str, Array]:
        named = model.apply(*args, train=False)[0]
        return {name: value for name, value in named.items() if hasattr(value, "shape")}

    traced, shapes = jax.make_jaxpr(outputs, return_shape=True)(params, model_state, image)
    if "logits" not in shapes:
        raise RunError("the network has no logits, so there is no class to explain; take a network that classifies")
    program = flatten(traced)
    paths = jax.tree_util.tree_leaves_with_path(shapes)
    pairs = zip(paths, program.outputs, strict=True)
    return program, {path[0].key: _Output(id, leaf.shape) for (path, leaf), id in pairs}


def _source(program: Program, value: int, logits: int) -> tuple[int, list[Op]] | None:
    """The value on the way to the logits of which `value` is a view, and the views in order; None for a dead end."""
    found = needed(program, logits)
    made_by = producers(program)
    views: list[Op] = []
    while value not in found:
        op = made_by.get(value)
        if op is None or op.eqn.primitive.name not in VIEWS or len(op.inputs) != 1:
            return None
        views.insert(0, op)
        value = op.inputs[0]
    floating = value not in program.constants and jnp.issubdtype(program.avals[value].dtype, jnp.floating)
    return (value, views) if floating else None


@jax.custom_vjp
def _guided_relu(x: Array) -> Array:
    return jnp.maximum(x, 0)


def _guided_forward(x: Array) -> tuple[Array, Array]:
    return jnp.maximum(x, 0), x > 0


def _guided_backward(active: Array, gradient: Array) -> tuple[Array]:
    return (jnp.where(active & (gradient > 0), gradient, 0),)


_guided_relu.defvjp(_guided_forward, _guided_backward)


def _run_guided(program: Program, arguments: Sequence[Any]) -> list[Any]:
    relus = find_relus(program)

    def perform(op: Op, operands: Sequence[Any]) -> Sequence[Any]:
        if op.outputs and op.outputs[0] in relus:
            return [_guided_relu(operands[op.inputs.index(relus[op.outputs[0]])])]
        guided = {key: _guided(param) for key, param in _bodies(op)}
        return bind(op._replace(eqn=op.eqn.replace(params={**op.eqn.params, **guided})), operands)

    return run(program, arguments, perform)


def _bodies(op: Op) -> list[tuple[str, Any]]:
    """The parameters that hold the body of a loop or the branches of a condition."""
    key = {"scan": "jaxpr", "cond": "branches"}.get(op.eqn.primitive.name)
    return [(key, op.eqn.params[key])] if key else []


def _guided(body: Any) -> Any:
    """A body, or a tuple of branches, with the rule in it."""
    if isinstance(body, tuple | list):
        return tuple(map(_guided, body))
    program = flatten(body)
    if not _count(program):
        return body
    avals = [program.avals[i] for i in program.inputs]
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype, weak_type=getattr(a, "weak_type", False)) for a in avals]
    traced = jax.make_jaxpr(lambda *arguments: _run_guided(program, arguments))(*shapes)
    return traced if isinstance(traced, type(body)) else traced.jaxpr


def _count(program: Program) -> int:
    total = len(find_relus(program))
    for op in program.ops:
        for _, body in _bodies(op):
            counts = [_count(flatten(each)) for each in (body if isinstance(body, tuple | list) else [body])]
            total += max(counts) * op.eqn.params.get("length", 1)
    return total
