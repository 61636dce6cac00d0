# SPDX-License-Identifier: Apache-2.0
"""What the elements of an array see of the image along one of its axes: an interval of pixels for each element."""

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

Step = tuple[int, float] | None
"""(period, shift): element i + period sees what element i sees, `shift` pixels on; None: no such rule is known."""

SAME: Step = (1, 0.0)  # all elements of the axis see the same
_MOST_PERIOD = 32  # looked for in an array: the factor of one upsampling, or of several in a row


class Field(NamedTuple):
    """The first and last pixel that each element of an array sees, along one axis of the image.

    Attributes:
      low: float64 of the array's rank; an axis is as long as the array's, or 1 where the interval is the same for
        all along it. Below 0 where a window reaches over the border. An element that sees nothing has +inf.
      high: likewise, the last pixel (included), -inf where nothing is seen; of the shape of `low`.
      steps: for each axis how the intervals go on beyond the array's ends, where padding continues them.
    """

    low: np.ndarray
    high: np.ndarray
    steps: tuple[Step, ...]


def make_field(low: np.ndarray, high: np.ndarray, steps: Sequence[Step]) -> Field:
    """A field whose two arrays are brought to one shape."""
    low, high = np.broadcast_arrays(low, high)
    return Field(low, high, tuple(steps))


def read_field(low: np.ndarray, high: np.ndarray, shape: Sequence[int]) -> Field:
    """The field of an array of `shape` from its intervals alone: what they show along each axis."""
    low, high = _squeezed(low, high)
    return make_field(low, high, [detect(low, high, axis, length) for axis, length in enumerate(shape)])


def _squeezed(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays, with the length 1 along axes that do not matter."""
    for axis in range(low.ndim):
        firsts = [array.take([0], axis) for array in (low, high)] if low.shape[axis] > 1 else []
        if firsts and (low == firsts[0]).all() and (high == firsts[1]).all():
            low, high = firsts
    return low, high


def nothing(rank: int) -> Field:
    """The field of a constant of `rank` axes."""
    return Field(np.full((1,) * rank, np.inf), np.full((1,) * rank, -np.inf), (SAME,) * rank)


def sees(field: Field) -> bool:
    """Whether any element sees anything."""
    return bool((field.low <= field.high).any())


def everything(field: Field, rank: int) -> Field:
    """An array of `rank` axes whose elements see all that `field` sees."""
    return Field(
        np.full((1,) * rank, field.low.min(initial=np.inf)),
        np.full((1,) * rank, field.high.max(initial=-np.inf)),
        (SAME,) * rank,
    )


def all_of(fields: Iterable[Field], rank: int) -> Field:
    """An array of `rank` axes whose elements see all that any of `fields` sees."""
    return union([everything(field, rank) for field in fields], (1,) * rank)


def union(fields: Iterable[Field], shape: Sequence[int]) -> Field:
    """An array of `shape` each of whose elements sees what the elements in its place see; scalars are spread."""
    rank = len(shape)
    seen = [field if field.low.ndim == rank else everything(field, rank) for field in fields if sees(field)]
    if len(seen) < 2:
        return seen[0] if seen else nothing(rank)
    low = reduce(np.minimum, (field.low for field in seen))
    high = reduce(np.maximum, (field.high for field in seen))
    steps = [
        _common([field.steps[axis] for field in seen]) or detect(low, high, axis, length)
        for axis, length in enumerate(shape)
    ]
    return make_field(low, high, steps)


def _common(steps: Sequence[Step]) -> Step:
    """The step that all follow: their least common period, if they move at one rate."""
    known = [step for step in steps if step is not None]
    rates = {shift / period for period, shift in known}
    if len(known) < len(steps) or len(rates) != 1:
        return None
    period = math.lcm(*(period for period, _ in known))
    return period, rates.pop() * period


def detect(low: np.ndarray, high: np.ndarray, axis: int, length: int) -> Step:
    """The step that the intervals themselves show along an axis, `length` elements long, or None."""
    count = low.shape[axis]
    if count == 1:
        return SAME if length > 1 else None
    first, last = np.moveaxis(low, axis, 0), np.moveaxis(high, axis, 0)
    for period in range(1, min(_MOST_PERIOD, count // 2) + 1):
        with np.errstate(invalid="ignore"):  # inf - inf: elements that see nothing follow no step
            moves = [first[period:] - first[:-period], last[period:] - last[:-period]]
        shift = moves[0].flat[0]
        if np.isfinite(shift) and all((move == shift).all() for move in moves):
            return period, float(shift)
    return None


def take(field: Field, axis: int, index: np.ndarray, length: int, *, extend: bool) -> tuple[np.ndarray, np.ndarray]:
    """The intervals at places along an axis.

    Args:
      field: of the array.
      axis: of the array.
      index: places, any whole numbers: below 0, or `length` and beyond, for padding.
      length: of the array along the axis.
      extend: padding sees what the steps say that it would see, were the map larger; else it sees nothing.

    Returns:
      low and high, as long along the axis as `index`; or 1 still, if the axis did not matter.
    """
    if field.low.shape[axis] == 1 and length > 1:
        return field.low, field.high
    turns, shift, step = np.zeros_like(index), 0.0, field.steps[axis]
    if extend and step is not None and step[0] <= length:
        period, shift = step
        turns = np.where(index < 0, index // period, np.maximum(0, -((length - 1 - index) // period)))
        index = index - turns * period
    inside = (index >= 0) & (index < length)
    shape = [1] * field.low.ndim
    shape[axis] = -1
    where = np.clip(index, 0, length - 1) if length else np.zeros_like(index)
    inside, moved = inside.reshape(shape), (turns * shift).reshape(shape)
    if not length:
        return np.full(inside.shape, np.inf), np.full(inside.shape, -np.inf)
    low = np.where(inside, np.take(field.low, where, axis) + moved, np.inf)
    return low, np.where(inside, np.take(field.high, where, axis) + moved, -np.inf)


class Window(NamedTuple):
    """A window along one axis: `size` taps `dilation` apart, moved by `stride`.

    There are `before` places of padding before the first element, and `holes` - 1 between any two.
    """

    size: int = 1
    stride: int = 1
    before: int = 0
    holes: int = 1
    dilation: int = 1


def slide(field: Field, axis: int, window: Window, length: int, count: int, *, extend: bool) -> Field:
    """The field of `count` windows along an axis of `length` elements."""
    if field.low.shape[axis] == 1 and length > 1:
        return field
    tap = np.arange(window.size) * window.dilation - window.before
    place = np.arange(count).reshape(-1, 1) * window.stride + tap.reshape(1, -1)
    index, hole = (place // window.holes).ravel(), (place % window.holes != 0).ravel()
    low, high = take(field, axis, index, length, extend=extend)
    shape = [1] * low.ndim
    shape[axis] = -1
    low, high = np.where(hole.reshape(shape), np.inf, low), np.where(hole.reshape(shape), -np.inf, high)
    parts = (*low.shape[:axis], count, window.size, *low.shape[axis + 1 :])
    low = low.reshape(parts).min(axis + 1, initial=np.inf)
    high = high.reshape(parts).max(axis + 1, initial=-np.inf)
    return make_field(low, high, _replace(field.steps, axis, strided(field.steps[axis], window.stride, window.holes)))


def strided(step: Step, stride: int, holes: int = 1) -> Step:
    """The step along an axis of which every `stride`-th place is kept, after `holes` - 1 were put between any two."""
    if step is None:
        return None
    period, shift = step[0] * holes, step[1]
    common = math.gcd(period, stride)
    return period // common, shift * (stride // common)


def _replace(steps: tuple[Step, ...], axis: int, step: Step) -> tuple[Step, ...]:
    return (*steps[:axis], step, *steps[axis + 1 :])


def reshape(field: Field, before: Sequence[int], after: Sequence[int]) -> Field:
    """The field of a reshaped array. Axes that are only merged or split among themselves leave the others alone."""
    low_shape: list[int] = []  # of the arrays before, spread where the reshape needs it
    new_shape: list[int] = []
    steps: list[Step | str] = []
    for old, new in _groups(before, after):
        mattering = [axis for axis in old if field.low.shape[axis] > 1]
        sizes, wanted = [before[axis] for axis in old], [after[axis] for axis in new]
        if not mattering:
            low_shape += [1] * len(old)
            new_shape += [1] * len(new)
            long = [field.steps[axis] for axis in old if before[axis] == 1 and field.steps[axis] != SAME]
            steps += [long[0] if long and after[axis] == 1 and i == 0 else SAME for i, axis in enumerate(new)]
            continue
        low_shape += sizes
        new_shape += wanted
        outer = next(axis for axis in old if before[axis] > 1)
        inner = math.prod(sizes) // before[outer]
        if len(old) - sizes.count(1) == 1:  # one axis, perhaps split
            for i, size in enumerate(wanted):
                steps.append(strided(field.steps[outer], math.prod(wanted[i + 1 :])) if size > 1 else SAME)
        elif len(new) - wanted.count(1) == 1:  # several axes, merged
            step = field.steps[outer]
            steps += [((step[0] * inner, step[1]) if step and size > 1 else SAME) for size in wanted]
        else:
            steps += ["?"] * len(new)
    low, high = _squeezed(*(np.broadcast_to(end, low_shape).reshape(new_shape) for end in (field.low, field.high)))
    found: list[Step] = []
    for axis, step in enumerate(steps):
        if new_shape[axis] > 1:
            step = detect(low, high, axis, after[axis]) or step
        found.append(None if isinstance(step, str) else step)
    return make_field(low, high, found)


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes of one size in the smallest runs of equal product."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        first, second = i, j
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while (left := math.prod(before[first:i])) != (right := math.prod(after[second:j])):
            i, j = (i + 1, j) if left < right else (i, j + 1)
        groups.append((list(range(first, i)), list(range(second, j))))
    return groups
