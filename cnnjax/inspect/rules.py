# SPDX-License-Identifier: Apache-2.0
"""For each primitive, what the elements of its results see, given what those of its operands see.

A primitive without a rule is taken to see, in every element, all that it is given: too much, never too little.
"""

from collections.abc import Sequence

import numpy as np

from cnnjax.inspect import rules_indexed, rules_moves, rules_products
from cnnjax.inspect.constants import Context, Rule
from cnnjax.inspect.fields import SAME, Field, all_of, everything, nothing, read_field, sees, union
from cnnjax.inspect.placewise import PLACEWISE
from cnnjax.inspect.rules_moves import stack
from cnnjax.inspect.rules_products import reduce, reduce_window
from cnnjax.inspect.steps import Step


def apply_rule(step: Step, fields: Sequence[Field], context: Context) -> list[Field]:
    """The fields of a step's results."""
    name, shapes = step.primitive, [value.shape for value in step.outputs]
    if not any(map(sees, fields)):
        return [nothing(len(shape)) for shape in shapes]
    if name in PLACEWISE or name == "join":
        return [union(fields, shape) for shape in shapes]
    if name == "optimization_barrier":
        return list(fields)
    if name.startswith("reduce_window"):
        return [union([reduce_window(step, f, context) for f in fields[: len(shapes)]], shape) for shape in shapes]
    if (name.startswith("reduce_") and "axes" in step.params) or name in ("argmax", "argmin"):
        return [union([reduce(step, f) for f in fields if f.low.ndim], shape) for shape in shapes]
    if name.startswith("cum") or name in ("sort", "top_k"):
        return [union([_mixed(step, field) for field in fields], shape) for shape in shapes]
    if name in _RULES:
        result = _RULES[name](step, fields, context)
        return result if isinstance(result, list) else [result]
    return [all_of(fields, len(shape)) for shape in shapes]


def _mixed(step: Step, field: Field) -> Field:
    """Along one axis each element sees all (sorting), or all up to its own place (cumulative sums)."""
    axis = step.params["dimension"] if step.primitive == "sort" else step.params["axis"]
    if step.primitive.startswith("cum"):
        turned = slice(None, None, -1 if step.params["reverse"] else 1)
        where = (*[slice(None)] * axis, turned)
        low = np.minimum.accumulate(field.low[where], axis)[where]
        return read_field(low, np.maximum.accumulate(field.high[where], axis)[where], step.inputs[0].shape)
    low, high = field.low.min(axis, keepdims=True), field.high.max(axis, keepdims=True)
    return Field(low, high, (*field.steps[:axis], SAME, *field.steps[axis + 1 :]))


def _index(step: Step, fields: Sequence[Field], context: Context) -> Field:
    """A slice off the leading axis: one turn's, or that of any turn."""
    field, turn = fields[0], step.params["index"]
    if turn is None or field.low.shape[0] == 1:
        return Field(field.low.min(0), field.high.max(0), field.steps[1:])
    return Field(field.low[turn], field.high[turn], field.steps[1:])


def _collect(step: Step, fields: Sequence[Field], context: Context) -> Field:
    return stack(fields, 0, step.outputs[0].shape)


def _loop(step: Step, fields: Sequence[Field], context: Context) -> Field:
    """A result after any number of turns: that of one turn where no turn adds anything, else the whole image."""
    rank, half = len(step.outputs[0].shape), (len(fields) - 1) // 2
    before, after = fields[1 : 1 + half], fields[1 + half :]
    if all(_within(new, old) for old, new in zip(before, after, strict=True)):
        return fields[0]
    return everything(Field(np.zeros(1), np.full(1, context.length - 1.0), (SAME,)), rank)


def _within(new: Field, old: Field) -> bool:
    return bool(((new.low >= old.low) & (new.high <= old.high)).all())


def _first(step: Step, fields: Sequence[Field], context: Context) -> Field:
    return fields[0]


_RULES: dict[str, Rule] = {
    **rules_products.RULES,
    **rules_moves.RULES,
    **rules_indexed.RULES,
    "index": _index,
    "collect": _collect,
    "carry": _first,
    "loop": _loop,
}
