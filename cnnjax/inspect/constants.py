# SPDX-License-Identifier: Apache-2.0
"""The values of a traced computation that depend on no argument: indices, masks, the matrices of a resize."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cnnjax.inspect.fields import Field
from cnnjax.inspect.steps import LINKS, Step, Trace, Value


class Constants:
    """Looks values up, and computes those that tracing wrote down as steps; each once, and only when asked for."""

    def __init__(self, trace: Trace) -> None:
        self._made_by: Mapping[int, Step] = {value.id: step for step in trace.steps for value in step.outputs}
        self._known: dict[int, np.ndarray | None] = {}

    def get(self, value: Value) -> np.ndarray | None:
        """The value as an array; None where it depends on an argument or on the turn of a loop."""
        if value.arguments:
            return None
        if value.id not in self._known:
            self._known[value.id] = self._compute(value)
        return self._known[value.id]

    def _compute(self, value: Value) -> np.ndarray | None:
        steps = self._steps_of(value)
        if steps is None:
            return None

        def run() -> Any:
            results: dict[int, Any] = {}

            def read(value: Value) -> Any:
                return results.get(value.id, value.constant)

            for step in steps:
                primitive = step.eqns[-1].primitive
                made = primitive.bind(*map(read, step.inputs), **step.params)
                made = made if primitive.multiple_results else [made]
                results.update((value.id, each) for value, each in zip(step.outputs, made, strict=True))
            return read(value)

        try:
            return np.asarray(jax.jit(run)() if steps else value.constant)
        except Exception:  # anything may be in a user's program; what cannot be computed is simply not known
            return None

    def _steps_of(self, value: Value) -> list[Step] | None:
        """The steps that make a value from nothing, in order; None if there are others on the way."""
        order: dict[int, Step] = {}
        stack, visited = [(value, False)], set()
        while stack:
            current, is_done = stack.pop()
            step = self._made_by.get(current.id)
            if is_done and step is not None:
                order[id(step)] = step
            elif current.id not in visited:
                visited.add(current.id)
                if step is None:
                    if current.constant is None:
                        return None
                elif step.primitive in LINKS or step.times != 1:
                    return None
                else:
                    stack.append((current, True))
                    stack += [(each, False) for each in step.inputs]
        return list(order.values())


class Context(NamedTuple):
    """What the rules of receptive fields share.

    Attributes:
      constants: of the trace.
      extend: padding sees what it would see on a larger image (the theoretical field); else it sees nothing.
      length: of the image's axis, in pixels.
    """

    constants: Constants
    extend: bool
    length: int


Rule = Callable[[Step, Sequence[Field], Context], Field | list[Field]]
"""What the result of a step sees, or its results, given what its operands do."""
