# SPDX-License-Identifier: Apache-2.0
"""The nouns of a traced computation: values, steps, and what a step costs."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

Scope = tuple[str | int, ...]

VIEWS = ("reshape", "transpose", "broadcast_in_dim", "convert_element_type", "squeeze", "copy")
"""Primitives that show the same numbers in another form."""


LINKS = ("index", "collect", "join", "carry", "loop")
"""Names of steps that are no equation of jax's; see `Step`."""


class Value(NamedTuple):
    """An array of the traced program.

    Attributes:
      id: its number; equal programs number their values alike.
      shape: its shape.
      dtype: its dtype.
      arguments: the positions of the function's arguments that it depends on.
      constant: the number or array itself where tracing knew it, else None.
    """

    id: int
    shape: tuple[int, ...]
    dtype: Any
    arguments: frozenset[int]
    constant: Any = None


class Step(NamedTuple):
    """One primitive operation.

    Five names are not jax's: `index` takes a slice off the leading axis (a scan's input), `collect` puts such
    slices together again (its output), `join` is a value that comes from one of several branches. Of a loop whose
    body is there once, `carry` is what a turn begins with, and `loop` a result after the last turn: its operands are
    the result of one turn, then, of all that is carried on its way, the values before a turn and those after it.

    Attributes:
      primitive: what it does, by jax's name ("conv_general_dilated").
      params: the operation's static parameters.
      inputs: its operands.
      outputs: its results.
      scope: the names around it, outermost first (a Linen module's path); an int is the turn of an opened scan.
      times: how often it runs: a scan's length for a body that is not opened; 0 in a branch not counted.
      eqns: the equations of the jaxprs that it comes from, the calls outermost first, then, but for the five
        above, its own.
    """

    primitive: str
    params: Mapping[str, Any]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    scope: Scope
    times: int
    eqns: tuple[Any, ...]


class Trace(NamedTuple):
    """A traced function: the leaves of its arguments, of its results, and the steps between, in order."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    steps: list[Step]


def effects(step: Step) -> frozenset[Any]:
    """What a step does beside computing its results; jax's effect objects."""
    return frozenset() if step.primitive in LINKS else frozenset(step.eqns[-1].effects)


def macs(step: Step) -> int:
    """Multiply-adds of one run of a convolution, its gradients or a matrix product; 0 for anything else.

    Products with padding count, as in the papers; products with the holes of a dilated input (a transposed
    convolution) do not.
    """
    out = step.outputs[0].shape
    if step.primitive == "conv_input_gradient":  # of [B,H',W',F] and [h,w,C,F]
        gradient, kernel = (value.shape for value in step.inputs)
        return math.prod(gradient) * math.prod(kernel[:-1])
    if step.primitive == "conv_kernel_gradient":  # of [B,H,W,C] and [B,H',W',F]
        return math.prod(step.inputs[1].shape) * math.prod(out[:-1])
    if step.primitive == "dot_general":
        (contracted, _), _ = step.params["dimension_numbers"]
        return math.prod(out) * math.prod(step.inputs[0].shape[i] for i in contracted)
    if step.primitive == "conv_general_dilated":
        params, kernel, axes = step.params, step.inputs[1].shape, step.params["dimension_numbers"]
        count = out[axes.out_spec[0]] * out[axes.out_spec[1]] * kernel[axes.rhs_spec[1]]
        for i in range(len(params["window_strides"])):
            count *= _taps(
                out[axes.out_spec[2 + i]],
                kernel[axes.rhs_spec[2 + i]],
                params["window_strides"][i],
                params["padding"][i][0],
                params["lhs_dilation"][i],
                params["rhs_dilation"][i],
            )
        return count
    return 0


def _taps(out: int, kernel: int, stride: int, low: int, hole: int, dilation: int) -> int:
    """Along one axis, the pairs (output, kernel tap) that meet a pixel and not a hole between two."""
    return sum((o * stride + k * dilation - low) % hole == 0 for o in range(out) for k in range(kernel))
