# SPDX-License-Identifier: Apache-2.0
"""Receptive fields of what sums up: windows, convolutions, matrix products, reductions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnjax.inspect.constants import Context, Rule
from cnnjax.inspect.fields import SAME, Field, Window, all_of, detect, everything, make_field, sees, slide, union
from cnnjax.inspect.steps import Step, Value

_MOST_PRODUCTS = 2**26  # elements of one masked matrix product; above that its zeros are not looked at


def _convolution(step: Step, fields: Sequence[Field], context: Context) -> Field:
    params, (image, kernel), result = step.params, step.inputs, step.outputs[0].shape
    numbers, groups, field = params["dimension_numbers"], params["feature_group_count"], fields[0]
    if params["batch_group_count"] != 1:
        return all_of(fields, len(result))
    for i, axis in enumerate(numbers.lhs_spec[2:]):
        window = Window(
            kernel.shape[numbers.rhs_spec[2 + i]],
            params["window_strides"][i],
            params["padding"][i][0],
            params["lhs_dilation"][i],
            params["rhs_dilation"][i],
        )
        count = result[numbers.out_spec[2 + i]]
        field = slide(field, axis, window, image.shape[axis], count, extend=context.extend)
    channels, features = numbers.lhs_spec[1], result[numbers.out_spec[1]]
    low, high = (np.moveaxis(array, channels, -1) for array in (field.low, field.high))
    if low.shape[-1] > 1:
        parts = (*low.shape[:-1], groups, -1)
        low, high = low.reshape(parts).min(-1), high.reshape(parts).max(-1)
        if groups > 1:
            low, high = (np.repeat(array, features // groups, -1) for array in (low, high))
    order = [0] * len(result)
    for source, target in zip(numbers.lhs_spec, numbers.out_spec, strict=True):
        order[target] = source
    low, high = (np.moveaxis(array, -1, channels).transpose(order) for array in (low, high))
    steps = [field.steps[axis] for axis in order]
    steps[numbers.out_spec[1]] = detect(low, high, numbers.out_spec[1], features)
    return union([make_field(low, high, steps), everything(fields[1], len(result))], result)


def _dot_general(step: Step, fields: Sequence[Field], context: Context) -> Field:
    contracted, batch = step.params["dimension_numbers"]
    result = step.outputs[0].shape
    parts = []
    for side in (0, 1):
        if not sees(fields[side]):
            continue
        other = step.inputs[1 - side]
        own_axes = (tuple(batch[side]), tuple(contracted[side]))
        other_axes = (tuple(batch[1 - side]), tuple(contracted[1 - side]))
        weights = context.constants.get(other)
        parts.append(_contract(fields[side], step.inputs[side], own_axes, other, other_axes, weights, side))
    return union(parts, result)


def _contract(
    field: Field, own: Value, own_axes: Any, other: Value, other_axes: Any, weights: np.ndarray | None, side: int
) -> Field:
    """One operand's part in a matrix product: the union along the contracted axes, where the weights are not 0."""
    (batch, contracted), (other_batch, other_contracted) = own_axes, other_axes
    free = [axis for axis in range(len(own.shape)) if axis not in (*batch, *contracted)]
    other_free = [axis for axis in range(len(other.shape)) if axis not in (*other_batch, *other_contracted)]
    low, high = (array.transpose((*batch, *free, *contracted)) for array in (field.low, field.high))
    kept = [*batch, *free]
    head = low.shape[: len(kept)]
    matters = any(size > 1 for size in low.shape[len(kept) :])
    products = math.prod(head) * math.prod(other.shape)
    new = (1,) * len(other_free)
    if matters and weights is not None and products <= _MOST_PRODUCTS:
        full = (*head, *(own.shape[axis] for axis in contracted))
        shape = (*head, *new, math.prod(own.shape[axis] for axis in contracted))
        low, high = (np.broadcast_to(array, full).reshape(shape) for array in (low, high))
        mask = (weights != 0).transpose((*other_batch, *other_free, *other_contracted))
        sizes = [other.shape[axis] for axis in (*other_batch, *other_free)]
        mask = mask.reshape((*sizes[: len(batch)], *(1,) * len(free), *sizes[len(batch) :], -1))
        low, high = np.where(mask, low, np.inf).min(-1), np.where(mask, high, -np.inf).max(-1)
    else:
        sums = tuple(range(len(kept), low.ndim))
        shape = (*head, *new)
        low, high = low.min(sums, initial=np.inf).reshape(shape), high.max(sums, initial=-np.inf).reshape(shape)
    steps = [field.steps[axis] for axis in kept]
    steps += [
        detect(low, high, len(kept) + i, other.shape[axis]) if low.shape[len(kept) + i] > 1 else SAME
        for i, axis in enumerate(other_free)
    ]
    if side == 1:  # results have the left operand's free axes first
        ends = [*range(len(batch)), *range(len(kept), low.ndim), *range(len(batch), len(kept))]
        low, high, steps = low.transpose(ends), high.transpose(ends), [steps[axis] for axis in ends]
    return make_field(low, high, steps)


def reduce_window(step: Step, field: Field, context: Context) -> Field:
    """Sums or extremes over windows of one operand."""
    params, result = step.params, step.outputs[0].shape
    rank = len(result)
    base = params.get("base_dilation") or (1,) * rank
    spread = params.get("window_dilation") or (1,) * rank
    for axis, length in enumerate(step.inputs[0].shape):
        size, stride, before = (
            params["window_dimensions"][axis],
            params["window_strides"][axis],
            params["padding"][axis][0],
        )
        window = Window(size, stride, before, base[axis], spread[axis])
        if window != Window() or result[axis] != length:
            field = slide(field, axis, window, length, result[axis], extend=context.extend)
    return field


def reduce(step: Step, field: Field) -> Field:
    """Sums or extremes over whole axes of one operand."""
    axes = tuple(step.params["axes"])
    low, high = field.low.min(axes, initial=np.inf), field.high.max(axes, initial=-np.inf)
    return Field(low, high, tuple(each for axis, each in enumerate(field.steps) if axis not in axes))


RULES: dict[str, Rule] = {"conv_general_dilated": _convolution, "dot_general": _dot_general}
