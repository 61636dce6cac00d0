# SPDX-License-Identifier: Apache-2.0
"""Receptive fields of what only moves elements: reshaping, slicing, padding, joining."""

import math
from collections.abc import Sequence

import numpy as np

from cnnjax.inspect.constants import Context, Rule
from cnnjax.inspect.fields import (
    SAME,
    Field,
    Window,
    detect,
    everything,
    make_field,
    nothing,
    sees,
    slide,
    strided,
    union,
)
from cnnjax.inspect.fields import reshape as reshaped
from cnnjax.inspect.steps import Step


def _reshape(step: Step, fields: Sequence[Field], context: Context) -> Field:
    before, after = step.inputs[0].shape, step.outputs[0].shape
    return reshaped(fields[0], before, after) if math.prod(before) else nothing(len(after))


def _transpose(step: Step, fields: Sequence[Field], context: Context) -> Field:
    order, field = step.params["permutation"], fields[0]
    return Field(field.low.transpose(order), field.high.transpose(order), tuple(field.steps[axis] for axis in order))


def _squeeze(step: Step, fields: Sequence[Field], context: Context) -> Field:
    dropped, field = tuple(step.params["dimensions"]), fields[0]
    steps = tuple(each for axis, each in enumerate(field.steps) if axis not in dropped)
    return Field(field.low.squeeze(dropped), field.high.squeeze(dropped), steps)


def _broadcast(step: Step, fields: Sequence[Field], context: Context) -> Field:
    before, after, field = step.inputs[0].shape, step.outputs[0].shape, fields[0]
    shape, steps = [1] * len(after), [SAME] * len(after)
    for axis, target in enumerate(step.params["broadcast_dimensions"]):
        shape[target] = field.low.shape[axis]
        steps[target] = field.steps[axis] if before[axis] == after[target] else SAME
    return Field(field.low.reshape(shape), field.high.reshape(shape), tuple(steps))


def _pad(step: Step, fields: Sequence[Field], context: Context) -> Field:
    field = fields[0]
    for axis, (before, _, between) in enumerate(step.params["padding_config"]):
        length, count = step.inputs[0].shape[axis], step.outputs[0].shape[axis]
        if (before, length) != (0, count):
            window = Window(before=before, holes=between + 1)
            field = slide(field, axis, window, length, count, extend=context.extend)
    return union([field, everything(fields[1], len(step.outputs[0].shape))], step.outputs[0].shape)


def _part(field: Field, axis: int, start: int, stop: int, stride: int = 1) -> Field:
    steps = [*field.steps[:axis], strided(field.steps[axis], stride), *field.steps[axis + 1 :]]
    if field.low.shape[axis] == 1:
        return Field(field.low, field.high, tuple(steps))
    where = (*[slice(None)] * axis, slice(start, stop, stride))
    return Field(field.low[where], field.high[where], tuple(steps))


def _slice(step: Step, fields: Sequence[Field], context: Context) -> Field:
    params, field = step.params, fields[0]
    strides = params["strides"] or (1,) * field.low.ndim
    for axis, place in enumerate(zip(params["start_indices"], params["limit_indices"], strides, strict=True)):
        field = _part(field, axis, *place)
    return field


def _split(step: Step, fields: Sequence[Field], context: Context) -> list[Field]:
    axis, parts, start = step.params["axis"], [], 0
    for size in step.params["sizes"]:
        parts.append(_part(fields[0], axis, start, start + size))
        start += size
    return parts


def _dynamic_slice(step: Step, fields: Sequence[Field], context: Context) -> Field:
    places = [context.constants.get(value) for value in step.inputs[1:]]
    field, shape, sizes = fields[0], step.inputs[0].shape, step.params["slice_sizes"]
    for axis, place in enumerate(places):
        if place is not None:
            start = min(max(int(place), 0), shape[axis] - sizes[axis])
            field = _part(field, axis, start, start + sizes[axis])
        elif sizes[axis] != shape[axis]:  # anywhere along this axis
            low, high = field.low.min(axis, keepdims=True), field.high.max(axis, keepdims=True)
            field = Field(low, high, (*field.steps[:axis], SAME, *field.steps[axis + 1 :]))
    return union([field, *(everything(each, field.low.ndim) for each in fields[1:])], sizes)


def _reverse(step: Step, fields: Sequence[Field], context: Context) -> Field:
    axes, field = step.params["dimensions"], fields[0]
    steps = [(s[0], -s[1]) if s and axis in axes else s for axis, s in enumerate(field.steps)]
    return make_field(np.flip(field.low, axes), np.flip(field.high, axes), steps)


def _tile(step: Step, fields: Sequence[Field], context: Context) -> Field:
    field, steps = fields[0], list(fields[0].steps)
    low, high = field.low, field.high
    for axis, count in enumerate(step.params["reps"]):
        if count > 1:
            counts = [count if i == axis and low.shape[axis] > 1 else 1 for i in range(low.ndim)]
            low, high = np.tile(low, counts), np.tile(high, counts)
            steps[axis] = detect(low, high, axis, step.outputs[0].shape[axis])
    return make_field(low, high, steps)


def _concatenate(step: Step, fields: Sequence[Field], context: Context) -> Field:
    axis, shape = step.params["dimension"], step.outputs[0].shape
    return join(fields, [value.shape[axis] for value in step.inputs], axis, shape)


def join(fields: Sequence[Field], lengths: Sequence[int], axis: int, shape: Sequence[int]) -> Field:
    """The field of arrays put one after another along an axis, each of its length."""
    first = fields[0]
    if all(f.low.shape == first.low.shape and f.low.shape[axis] == 1 for f in fields) and all(
        (f.low == first.low).all() and (f.high == first.high).all() for f in fields
    ):
        low, high = first.low, first.high
    else:
        rest = [max(field.low.shape[i] for field in fields) for i in range(len(shape))]
        pieces = [
            [np.broadcast_to(array, (*rest[:axis], length, *rest[axis + 1 :])) for array in (field.low, field.high)]
            for field, length in zip(fields, lengths, strict=True)
        ]
        low, high = (np.concatenate(arrays, axis) for arrays in zip(*pieces, strict=True))
    steps = []
    for i, length in enumerate(shape):
        known = {field.steps[i] for field in fields if sees(field)}
        steps.append(known.pop() if i != axis and len(known) == 1 else detect(low, high, i, length))
    return make_field(low, high, steps)


def stack(fields: Sequence[Field], axis: int, shape: Sequence[int]) -> Field:
    """The field of arrays put one beside another along a new axis; a single one stands for them all."""
    parts = [
        Field(np.expand_dims(f.low, axis), np.expand_dims(f.high, axis), (*f.steps[:axis], SAME, *f.steps[axis:]))
        for f in fields
    ]
    return parts[0] if len(parts) == 1 else join(parts, [1] * len(parts), axis, shape)


def _unstack(step: Step, fields: Sequence[Field], context: Context) -> list[Field]:
    field, axis, count = fields[0], step.params["axis"], len(step.outputs)
    steps = (*field.steps[:axis], *field.steps[axis + 1 :])
    turns = range(count) if field.low.shape[axis] > 1 else [0] * count
    return [Field(field.low.take(turn, axis), field.high.take(turn, axis), steps) for turn in turns]


def _along_new_axis(step: Step, fields: Sequence[Field], context: Context) -> Field:
    return stack(fields, step.params["axis"], step.outputs[0].shape)


RULES: dict[str, Rule] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "broadcast_in_dim": _broadcast,
    "pad": _pad,
    "slice": _slice,
    "split": _split,
    "dynamic_slice": _dynamic_slice,
    "rev": _reverse,
    "tile": _tile,
    "concatenate": _concatenate,
    "stack": _along_new_axis,
    "unstack": _unstack,
}
