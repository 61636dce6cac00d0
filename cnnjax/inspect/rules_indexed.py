# SPDX-License-Identifier: Apache-2.0
"""Receptive fields of reading and writing at indices, where the indices are known."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.inspect.constants import Context, Rule
from cnnjax.inspect.fields import Field, all_of, read_field
from cnnjax.inspect.steps import Step


def _gather(step: Step, fields: Sequence[Field], context: Context) -> Field:
    operand, indices = step.inputs[:2]
    result, places = step.outputs[0].shape, context.constants.get(indices)
    if places is None:
        return all_of(fields, len(result))

    def moved(array: np.ndarray) -> np.ndarray:
        # The same gather, of the intervals' ends; what lies outside comes as NaN.
        full = jnp.asarray(np.broadcast_to(array, operand.shape), jnp.float32)
        return np.asarray(step.eqns[-1].primitive.bind(full, places, **{**step.params, "fill_value": None}), float)

    low, high = moved(fields[0].low), moved(fields[0].high)
    low, high = np.where(np.isnan(low), np.inf, low), np.where(np.isnan(high), -np.inf, high)
    return read_field(low, high, result)


def _update(step: Step, fields: Sequence[Field], context: Context) -> Field:
    places, shape = [context.constants.get(value) for value in step.inputs[2:]], step.outputs[0].shape
    if any(place is None for place in places):
        return all_of(fields, len(shape))
    sizes = step.inputs[1].shape
    starts = [
        min(max(int(place), 0), n - size)
        for place, n, size in zip(places, shape, sizes, strict=True)
        if place is not None
    ]
    where = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    arrays = [np.array(np.broadcast_to(array, shape)) for array in (fields[0].low, fields[0].high)]
    for array, new in zip(arrays, (fields[1].low, fields[1].high), strict=True):
        array[where] = new
    low, high = arrays
    return read_field(low, high, shape)


def _scatter(step: Step, fields: Sequence[Field], context: Context) -> Field:
    """What is written sees what it did; with what it is written over, unless it takes its place."""
    shape, places = step.outputs[0].shape, context.constants.get(step.inputs[1])
    if places is None:
        return all_of(fields, len(shape))
    operand, updates = (
        [jnp.asarray(np.broadcast_to(end, value.shape), jnp.float32) for end in (field.low, field.high)]
        for field, value in ((fields[0], step.inputs[0]), (fields[2], step.inputs[2]))
    )
    names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
    options = {name: step.params[name] for name in names}
    first, second = (
        (jax.lax.scatter,) * 2 if step.primitive == "scatter" else (jax.lax.scatter_min, jax.lax.scatter_max)
    )
    low = np.asarray(first(operand[0], places, updates[0], **options), float)
    return read_field(low, np.asarray(second(operand[1], places, updates[1], **options), float), shape)


RULES: dict[str, Rule] = {
    "gather": _gather,
    "dynamic_update_slice": _update,
    **dict.fromkeys(("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max"), _scatter),
}
