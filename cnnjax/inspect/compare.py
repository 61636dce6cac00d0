# SPDX-License-Identifier: Apache-2.0
"""Whether two traces are the same program, constants included."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.inspect.source import line_of
from cnnjax.inspect.steps import Step, Trace, Value


def find_difference(one: Trace, other: Trace) -> str | None:
    """Where two traces of one function part ("net.py:12", or "" when the place is not known); None: nowhere.

    What a program means counts: operations, operands, shapes and constants, but not names and source lines.
    """
    twins: dict[int, int] = {}  # the number of a value in one program: its number in the other

    def same_values(mine: Sequence[Value], yours: Sequence[Value]) -> bool:
        return len(mine) == len(yours) and all(
            twins.setdefault(a.id, b.id) == b.id
            and (a.shape, a.dtype) == (b.shape, b.dtype)
            and _same_setting(a.constant, b.constant)
            for a, b in zip(mine, yours, strict=True)
        )

    def same_step(mine: Step, yours: Step) -> bool:
        return (
            (mine.primitive, mine.times) == (yours.primitive, yours.times)
            and same_values(mine.inputs, yours.inputs)
            and same_values(mine.outputs, yours.outputs)
            and _same_setting(mine.params, yours.params)
        )

    for mine, yours in zip(one.steps, other.steps, strict=False):
        if not same_step(mine, yours):
            return line_of(mine)
    common = min(len(one.steps), len(other.steps))
    for step in (*one.steps[common:], *other.steps[common:]):
        return line_of(step)
    return None if same_values(one.outputs, other.outputs) else ""


def _same_setting(one: Any, other: Any) -> bool:
    """Equality of static parameters and constants, where functions and the like count as equal.

    A function made anew in each call compares unequal although it does the same; what it computes is in the steps.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same_setting(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same_setting, one, other))
    if callable(one) or hasattr(one, "eqns") or type(one).__eq__ is object.__eq__:
        return type(one) is type(other)
    if hasattr(one, "dtype") or isinstance(one, float):
        return type(one) is type(other) and _bits(one) == _bits(other)
    return bool(one == other)


def _bits(number: Any) -> tuple[str, tuple[int, ...], bytes]:
    """The dtype, shape and bits of a number or an array: unlike its numbers, two NaN of them are equal."""
    if jnp.issubdtype(getattr(number, "dtype", float), jax.dtypes.prng_key):
        number = jax.random.key_data(number)
    array = np.asarray(number)
    return str(array.dtype), array.shape, array.tobytes()
