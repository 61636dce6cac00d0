# SPDX-License-Identifier: Apache-2.0
"""A jaxpr as one flat list of operations that can be run with changes, and the ReLUs in it.

Unlike `cnnjax.inspect.trace`, which opens loops to read them, this keeps every operation whole, so that it runs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import Literal

CALLS = ("jit", "pjit", "closed_call", "core_call", "remat2", "remat", "checkpoint")
VIEWS = ("convert_element_type", "reshape", "transpose", "squeeze", "copy", "copy_p")  # the same numbers otherwise


class Op(NamedTuple):
    """An equation, with its operands and results by number."""

    eqn: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Program(NamedTuple):
    """A jaxpr with its calls inlined; its values are numbered in the order in which they come up."""

    inputs: tuple[int, ...]
    constants: dict[int, Any]
    ops: list[Op]
    outputs: tuple[int, ...]
    avals: list[Any]


def flatten(traced: Any) -> Program:
    """A jaxpr, closed or not, as a list: jit, remat and the like inlined, loops and branches kept as one operation."""
    program = Program((), {}, [], (), [])

    def number(aval: Any) -> int:
        program.avals.append(aval)
        return len(program.avals) - 1

    def walk(called: Any, arguments: Sequence[int]) -> list[int]:
        jaxpr, constants = _open(called)
        known = dict(zip(jaxpr.invars, arguments, strict=True))
        for var, value in zip(jaxpr.constvars, constants, strict=True):
            known[var] = number(var.aval)
            program.constants[known[var]] = value

        def read(atom: Any) -> int:
            if not isinstance(atom, Literal):
                return known[atom]
            program.constants[new := number(atom.aval)] = atom.val
            return new

        for eqn in jaxpr.eqns:
            operands = [read(atom) for atom in eqn.invars]
            inner = _callee(eqn)
            if inner is not None:
                results = walk(inner, operands)
            else:
                results = [number(var.aval) for var in eqn.outvars]
                program.ops.append(Op(eqn, tuple(operands), tuple(results)))
            known.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    inputs = tuple(number(var.aval) for var in _open(traced)[0].invars)
    return program._replace(inputs=inputs, outputs=tuple(walk(traced, inputs)))


def _callee(eqn: Any) -> Any:
    """The jaxpr that an equation calls as it is, if it is to be inlined."""
    name, params = eqn.primitive.name, eqn.params
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    # A custom derivative must stay whole; that of relu and relu6 is the one of what they are made of.
    if name in CALLS or (name == "custom_jvp_call" and _is_rectifier(flatten(inner))):
        return inner
    return None


def _is_rectifier(program: Program) -> bool:
    names = {op.eqn.primitive.name for op in program.ops}
    choice = {"le", "select_n", "broadcast_in_dim", "convert_element_type"}
    simple = names <= {"max", "min"} or names <= choice
    return len(program.inputs) == 1 and simple and len(find_relus(program)) == 1


def _open(traced: Any) -> tuple[Any, Sequence[Any]]:
    return getattr(traced, "jaxpr", traced), getattr(traced, "consts", ())


def bind(op: Op, operands: Sequence[Any]) -> Sequence[Any]:
    """Does an operation, in whatever transformation is going on; returns its results."""
    primitive = op.eqn.primitive
    results = primitive.bind(*operands, **primitive.get_bind_params(op.eqn.params))
    return results if primitive.multiple_results else [results]


def run(
    program: Program,
    arguments: Sequence[Any],
    perform: Callable[[Op, Sequence[Any]], Sequence[Any]],
    change: Mapping[int, Callable[[Any], Any]] | None = None,
) -> list[Any]:
    """Runs a program; `perform` does an operation, `change` holds functions for single values as they come up."""
    change = change or {}
    values = dict(program.constants)

    def keep(numbers: Sequence[int], results: Sequence[Any]) -> None:
        for i, result in zip(numbers, results, strict=True):
            values[i] = change[i](result) if i in change else result

    keep(program.inputs, arguments)
    for op in program.ops:
        keep(op.outputs, perform(op, [values[i] for i in op.inputs]))
    return [values[i] for i in program.outputs]


def needed(program: Program, value: int) -> set[int]:
    """The values that `value` is made of, itself among them."""
    found = {value}
    for op in reversed(program.ops):
        if found & set(op.outputs):
            found.update(op.inputs)
    return found


def producers(program: Program) -> dict[int, Op]:
    """The operation that each value comes from; inputs and constants come from none."""
    return {i: op for op in program.ops for i in op.outputs}


def find_relus(program: Program) -> dict[int, int]:
    """The results of the ReLUs, and the input of each."""
    made_by = producers(program)

    def is_zero(i: int) -> bool:
        if i in program.constants:
            value = program.constants[i]
            return not isinstance(value, Tracer) and not np.any(np.asarray(value))
        op = made_by.get(i)
        return op is not None and op.eqn.primitive.name in ("broadcast_in_dim", *VIEWS) and is_zero(op.inputs[0])

    found = {}
    for op in program.ops:
        name, operands = op.eqn.primitive.name, op.inputs
        if name == "max":
            inputs = [a for a, b in (operands, operands[::-1]) if is_zero(b) and not is_zero(a)]
        elif name == "select_n" and len(operands) == 3:
            test, where_not, where = operands
            asked = made_by.get(test)
            inputs = []
            if asked is not None and asked.eqn.primitive.name in ("gt", "ge", "lt", "le"):
                above = asked.eqn.primitive.name in ("gt", "ge")
                kept, zero = (where, where_not) if above else (where_not, where)
                inputs = [kept] if is_zero(zero) and asked.inputs[0] == kept and is_zero(asked.inputs[1]) else []
        else:
            continue
        (result,) = op.outputs
        if inputs and jnp.issubdtype(program.avals[result].dtype, jnp.floating) and not _under_root(program, result):
            found[result] = inputs[0]
    return found


def _under_root(program: Program, value: int) -> bool:
    """Whether a value goes, but for an epsilon, into a square root: it is a variance kept from below 0."""
    same = {value}
    for op in program.ops:
        if same & set(op.inputs):
            if op.eqn.primitive.name in ("sqrt", "rsqrt"):
                return True
            others = [i for i in op.inputs if i not in same]
            if op.eqn.primitive.name in ("broadcast_in_dim", *VIEWS) or (
                op.eqn.primitive.name == "add" and all(i in program.constants for i in others)
            ):
                same.update(op.outputs)
    return False
