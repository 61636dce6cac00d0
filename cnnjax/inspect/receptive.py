# SPDX-License-Identifier: Apache-2.0
"""Receptive fields: which pixels of the image each neuron of a traced network can depend on.

They follow from the traced operations alone, so any network has them: through strides, dilation, padding, branches,
skips, concatenation, reshaping, upsampling, gathered patches and scans.

Convention (Araujo, Norris and Sim 2019, "Computing receptive fields of convolutional neural networks", Distill):
along each axis, neuron i of a layer sees the pixels from start + i * jump to start + i * jump + size - 1. Fields are
theoretical: with padding they reach over the border, so that start may be negative and size larger than the image.
"""

from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.inspect.constants import Constants
from cnnjax.inspect.fields import Field, Step, detect, make_field, nothing, sees
from cnnjax.inspect.rules import Context, apply_rule
from cnnjax.inspect.steps import Trace, Value
from cnnjax.inspect.trace import trace
from cnnjax.types import Array, Model, PyTree

_AXES = (1, 2)  # height and width of an image [B,H,W,C]


class ReceptiveField(NamedTuple):
    """What the neurons of a layer see, along (height, width).

    Attributes:
      size: pixels; of neurons that see different numbers of them, the most (the borders of the map left aside).
      jump: pixels from the field of one neuron to that of the next: less than 1 after upsampling; None where there
        is no one number, or no next neuron.
      start: the first pixel that the first neuron sees, 0 being the image's first.
    """

    size: tuple[int, int]
    jump: tuple[float | None, float | None]
    start: tuple[float, float]


class Fields:
    """The fields of all values of a trace that depend on an image [B,H,W,C], one of the trace's inputs."""

    def __init__(self, traced: Trace, image: Value) -> None:
        self._traced, self._image, self._constants = traced, image, Constants(traced)

    @cached_property
    def _theoretical(self) -> dict[int, tuple[Field, Field]]:
        """By the value's number, along height and along width; padding sees what it would on a larger image."""
        return self._find(extend=True)

    @cached_property
    def _exact(self) -> dict[int, tuple[Field, Field]]:
        """Likewise; padding sees nothing."""
        return self._find(extend=False)

    def _find(self, *, extend: bool) -> dict[int, tuple[Field, Field]]:
        height, width = (
            _propagate(self._traced, self._image, axis, Context(self._constants, extend, self._image.shape[axis]))
            for axis in _AXES
        )
        return {key: (height[key], width[key]) for key in height}

    def receptive_field(self, value: Value) -> ReceptiveField | None:
        """What the neurons of a value see; None where they see nothing of the image."""
        fields = self._theoretical.get(value.id)
        if fields is None or not all(map(sees, fields)):
            return None
        (height, down, top), (width, across, left) = (_describe(*series) for series in _series(*fields))
        return ReceptiveField((height, width), (down, across), (top, left))

    def boxes(self, value: Value) -> np.ndarray:
        """[h,w,4] int: for each place of a value (top, left, bottom, right), the pixels that it truly depends on.

        bottom and right are excluded, as in `image[top:bottom, left:right]`; padding is left out; where channels see
        different boxes, the box around them; zeros for a place that sees nothing. A vector has the one place [1,1].
        The places are in the order of the value's own axes: of a transposed map, those across it first.
        """
        blind = nothing(len(value.shape))
        height, width = self._exact.get(value.id, (blind, blind))
        top, bottom, left, right = _map(height, width, value.shape)
        box = np.stack(np.broadcast_arrays(top, left, bottom + 1, right + 1), -1)
        return np.where(np.isfinite(box).all(-1, keepdims=True), box, 0).astype(int)


def output_boxes(model: Model, image_shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """For each of a model's outputs the box of pixels [h,w,4] that each of its places sees; see `Fields.boxes`.

    Args:
      model: any pair of functions.
      image_shape: (H, W, C) of an image.
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    params, model_state = jax.eval_shape(lambda image: model.init(jax.random.key(0), image), image)
    names: list[str] = []

    def outputs(*args: PyTree) -> list[Array]:
        found = model.apply(*args, train=False)[0]
        names.extend(sorted(found))
        return [found[name] for name in sorted(found)]

    traced = trace(outputs, params, model_state, image)
    fields = Fields(traced, traced.inputs[-1])
    return {name: fields.boxes(value) for name, value in zip(names, traced.outputs, strict=True)}


def _propagate(traced: Trace, image: Value, axis: int, context: Context) -> dict[int, Field]:
    """Along one axis, the field of each value that sees the image."""
    rank, length = len(image.shape), image.shape[axis]
    shape = [1] * rank
    shape[axis] = length
    pixel = np.arange(length, dtype=float).reshape(shape)
    steps: list[Step] = [(1, 0.0)] * rank
    steps[axis] = (1, 1.0)
    known = {image.id: make_field(pixel, pixel, steps)}
    for step in traced.steps:
        inputs = [known.get(value.id) or nothing(len(value.shape)) for value in step.inputs]
        if any(value.id in known for value in step.inputs):
            known.update(zip((value.id for value in step.outputs), apply_rule(step, inputs, context), strict=True))
    return known


_Series = tuple[np.ndarray, np.ndarray, Step]
"""low, high and step of a row of places."""


def _map_axes(height: Field, width: Field) -> tuple[int | None, int | None]:
    """The axes down and across a map: those along which only the one or only the other of the two fields moves on.

    Along an axis of channels that see different boxes, both do. So they do along a map that was flattened into one
    axis, which is then given twice.
    """
    down, across = ({i for i in range(f.low.ndim) if _moves(f, i)} for f in (height, width))
    if len(down | across) == 1 and down == across:
        return (axis := down.pop()), axis
    first, second = (
        max(axes, key=lambda i: height.low.shape[i], default=None) for axes in (down - across, across - down)
    )
    return first, second


def _moves(field: Field, axis: int) -> bool:
    if field.low.shape[axis] == 1:
        return (field.steps[axis] or (1, 0.0))[1] != 0
    with np.errstate(invalid="ignore"):  # inf - inf, where nothing is seen
        moves = np.diff(field.low, axis=axis), np.diff(field.high, axis=axis)
    return any((np.isfinite(move) & (move != 0)).any() for move in moves)


def _series(height: Field, width: Field) -> tuple[_Series, _Series]:
    """The places of a value down its map, and those across it."""
    axis, other = _map_axes(height, width)
    if axis is not None and axis == other:
        return _unfold(height, width, axis)
    return _along(height, axis), _along(width, other)


def _along(field: Field, axis: int | None) -> _Series:
    others = tuple(i for i in range(field.low.ndim) if i != axis)
    low, high = field.low.min(others, initial=np.inf), field.high.max(others, initial=-np.inf)
    return low.reshape(-1), high.reshape(-1), None if axis is None else field.steps[axis]


def _map(height: Field, width: Field, shape: tuple[int, ...]) -> list[np.ndarray]:
    """top, bottom, left and right of each place [h,w] of the map of a value of `shape`."""
    axis, other = _map_axes(height, width)
    if axis is not None and axis == other:
        (top, bottom, _), (left, right, _) = _unfold(height, width, axis)
        return [top.reshape(-1, 1), bottom.reshape(-1, 1), left.reshape(1, -1), right.reshape(1, -1)]
    if len(shape) == 4:  # where a neuron's place does not matter, the map is taken to be [B,h,w,C]
        axis = axis or (_AXES[1] if other == _AXES[0] else _AXES[0])
        other = other or (_AXES[0] if axis == _AXES[1] else _AXES[1])
    kept = sorted(i for i in (axis, other) if i is not None)
    rest = tuple(i for i in range(len(shape)) if i not in kept)
    ends = (np.min(height.low, rest), np.max(height.high, rest), np.min(width.low, rest), np.max(width.high, rest))
    size = [shape[i] for i in kept]
    if len(kept) < 2:
        ends = [end.reshape((1, -1) if axis is None else (-1, 1)) for end in ends]
        size = [1 if i is None else shape[i] for i in (axis, other)]
    return [np.broadcast_to(end, size) for end in ends]


def _unfold(height: Field, width: Field, axis: int) -> tuple[_Series, _Series]:
    """The rows and columns of a map that was flattened into one axis, channels last."""
    others = tuple(i for i in range(height.low.ndim) if i != axis)
    arrays = [array.min(others) for array in (height.low, width.low)]
    arrays += [array.max(others) for array in (height.high, width.high)]
    top, left, bottom, right = arrays
    for row in range(1, len(top) + 1):
        if len(top) % row:
            continue
        tops, bottoms, lefts, rights = (array.reshape(-1, row) for array in (top, bottom, left, right))
        is_row = all((array == array[:, :1]).all() for array in (tops, bottoms))
        if is_row and all((array == array[:1]).all() for array in (lefts, rights)):
            pairs = [(tops[:, 0], bottoms[:, 0]), (lefts[0], rights[0])]
            first, second = (_distinct(low, high) for low, high in pairs)
            return first, second
    whole = [np.array([array.min()]) for array in (top, left)] + [np.array([array.max()]) for array in (bottom, right)]
    return (whole[0], whole[2], None), (whole[1], whole[3], None)


def _distinct(low: np.ndarray, high: np.ndarray) -> _Series:
    """Without repetitions of the interval before: the channels of one place."""
    new = np.r_[True, (low[1:] != low[:-1]) | (high[1:] != high[:-1])]
    low, high = low[new], high[new]
    return low, high, detect(low, high, 0, len(low))


def _describe(low: np.ndarray, high: np.ndarray, step: Step) -> tuple[int, float | None, float]:
    """Size, jump and start of a row of intervals."""
    sizes = np.where(np.isfinite(low), high - low + 1, 0)
    middle, first = slice(0, len(low)), 0
    if step is None and len(low) >= 4:  # the borders may be otherwise: reflected, or cut off
        first = len(low) // 4
        inner = slice(first, len(low) - first)
        step = detect(low[inner], high[inner], 0, 0)
        middle = inner if step else middle
    size = int(sizes[middle].max())
    seen = low[np.isfinite(low)][0]
    if step is None:
        return size, None, _plain(seen)
    period, shift = step
    jump = shift / period
    if middle.start:
        first = -(-first // period) * period
        seen = low[first] - jump * first
    return size, (_plain(jump) if len(low) > 1 or shift else None), _plain(seen)


def _plain(number: float) -> float:
    """A whole number as int."""
    return int(number) if float(number).is_integer() else float(number)
