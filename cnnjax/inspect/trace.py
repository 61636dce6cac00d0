# SPDX-License-Identifier: Apache-2.0
"""A function's traced computation as one flat list of steps: calls inlined, loops opened, names and origins kept.

Nothing is computed: the function is traced with abstract arrays. The steps carry what a reader of a network
needs: where each comes from (scope, source line), how often it runs, and which arguments its values depend on.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal

from cnnjax.inspect.steps import Scope, Step, Trace, Value, effects, macs
from cnnjax.types import PyTree


def trace(function: Callable[..., PyTree], *args: PyTree) -> Trace:
    """Traces `function(*args)`; the leaves of `args` are arrays or `jax.ShapeDtypeStruct`.

    A scan is opened turn by turn where it walks over slices of its first argument alone (stacked parameters: a
    scan over layers); other loops run through their body once, with `times` the length (1 for a while loop,
    whose length is not known). Of the branches of a `cond`, the costliest in multiply-adds has `times`.
    Dead code is left out, as the compiler does.
    """
    program = jax.make_jaxpr(function)(*args)
    tape = _Tape(itertools.count(), [])
    owners = [i for i, arg in enumerate(args) for _ in jax.tree.leaves(arg)]
    inputs = [tape.value(var.aval, {i}) for var, i in zip(_open(program)[0].invars, owners, strict=True)]
    outputs = _walk(program, inputs, _Place(), tape)
    return Trace(tuple(inputs), tuple(outputs), _live(tape.steps, outputs))


def _live(steps: list[Step], outputs: Iterable[Value]) -> list[Step]:
    """The steps that an output, or the world (an effect), depends on."""
    needed = {value.id for value in outputs}
    kept = []
    for step in reversed(steps):
        if any(value.id in needed for value in step.outputs) or effects(step):
            needed.update(value.id for value in step.inputs)
            kept.append(step)
    return kept[::-1]


class _Place(NamedTuple):
    """Where in the program a walk is: what `Step` says of it."""

    scope: Scope = ()
    times: int = 1
    eqns: tuple[Any, ...] = ()


class _Tape(NamedTuple):
    """What a walk writes: numbers for new values, and the steps."""

    ids: Iterator[int]
    steps: list[Step]

    def value(self, aval: Any, arguments: Iterable[int], constant: Any = None) -> Value:
        return Value(
            next(self.ids), getattr(aval, "shape", ()), getattr(aval, "dtype", None), frozenset(arguments), constant
        )

    def link(self, name: str, inputs: Sequence[Value], aval: Any, place: _Place, **params: Any) -> Value:
        """Writes a step that is not an equation (one of `LINKS`), its result like `aval`; returns that."""
        result = self.value(aval, _arguments(inputs))
        self.steps.append(Step(name, params, tuple(inputs), (result,), *place))
        return result


def _walk(program: Any, inputs: Sequence[Value], place: _Place, tape: _Tape, turn: int | None = None) -> list[Value]:
    """Writes the steps of a jaxpr, and of all that it calls, to the tape; returns its outputs.

    `turn` is the turn of the opened scan whose body this is. Its place in the scope is after the name that all
    steps of the body share (the scanned Linen module's), else first.
    """
    jaxpr, constants = _open(program)
    known = {var: tape.value(var.aval, (), c) for var, c in zip(jaxpr.constvars, constants, strict=True)}
    known |= dict(zip(jaxpr.invars, inputs, strict=True))
    all_names = [names for eqn in jaxpr.eqns if (names := _names(eqn))]
    heads = {names[0] for names in all_names}
    # Linen names a function scanned over a module twice: once for the scan, once for the module.
    skip = 2 if all(names[1:2] == names[:1] for names in all_names) else 1

    def read(atom: Any) -> Value:
        return tape.value(atom.aval, (), atom.val) if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        name, operands, local = eqn.primitive.name, [read(atom) for atom in eqn.invars], _names(eqn)
        callee = _callee(eqn) if name not in _CONTROL else None
        below = turn if callee is not None and not local else None  # the body is a call, as remat makes: its turn
        if turn is not None and below is None:
            local = (*heads, turn, *local[skip:]) if len(heads) == 1 else (turn, *local)
        inner = place._replace(scope=(*place.scope, *local), eqns=(*place.eqns, eqn))
        if name in _CONTROL:
            results = _CONTROL[name](eqn, operands, inner, tape)
        elif callee is not None:
            results = _walk(callee, operands, inner, tape, below)
        else:
            results = [tape.value(var.aval, _arguments(operands)) for var in eqn.outvars]
            tape.steps.append(Step(name, eqn.params, tuple(operands), tuple(results), *inner))
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _scan(eqn: Any, operands: list[Value], place: _Place, tape: _Tape) -> list[Value]:
    length = eqn.params["length"]
    if "ft_in" in eqn.params:  # jax 0.12
        num_consts, num_carry, _ = map(len, eqn.params["ft_in"].unpack())
    else:
        num_consts, num_carry = eqn.params["num_consts"], eqn.params["num_carry"]
    fixed, carry = operands[:num_consts], operands[num_consts : num_consts + num_carry]
    stacked, body = operands[num_consts + num_carry :], eqn.params["jaxpr"]
    slices = [var.aval for var in _open(body)[0].invars[num_consts + num_carry :]]
    opened = length > 1 and any(value.arguments == {0} for value in stacked)
    turns = [*range(length)] if opened else [None]
    results, start, before = {}, len(tape.steps), []
    if not opened and length > 1:
        carry = before = _enter(carry, place, tape)
    for turn in reversed(turns) if eqn.params["reverse"] else turns:
        parts = [
            tape.link("index", [value], aval, place, index=turn) for value, aval in zip(stacked, slices, strict=True)
        ]
        inner = place if opened else place._replace(times=place.times * length)
        outputs = _walk(body, [*fixed, *carry, *parts], inner, tape, turn)
        if before and turn is None:
            outputs = _leave(before, outputs, tape, start, place)
        carry, results[turn] = outputs[:num_carry], outputs[num_carry:]
    pieces = zip(*(results[turn] for turn in turns), strict=True)
    stacks = zip(pieces, eqn.outvars[num_carry:], strict=True)
    return [*carry, *(tape.link("collect", each, var.aval, place) for each, var in stacks)]


def _while(eqn: Any, operands: list[Value], place: _Place, tape: _Tape) -> list[Value]:
    first = eqn.params["cond_nconsts"]
    second = first + eqn.params["body_nconsts"]
    start, carry = len(tape.steps), operands[second:]
    before = _enter(carry, place, tape)
    proceed = _walk(eqn.params["cond_jaxpr"], [*operands[:first], *before], place, tape)
    results = _walk(eqn.params["body_jaxpr"], [*operands[first:second], *before], place, tape)
    results = _leave(before, results, tape, start, place)
    either = zip(eqn.outvars, carry, results, strict=True)
    return [tape.link("join", [before, after, *proceed], var.aval, place) for var, before, after in either]


def _enter(carry: Sequence[Value], place: _Place, tape: _Tape) -> list[Value]:
    """What a turn begins with: no longer the constant, if it was one, that the first turn begins with."""
    return [tape.link("carry", [value], value, place) for value in carry]


def _leave(before: Sequence[Value], results: Sequence[Value], tape: _Tape, start: int, place: _Place) -> list[Value]:
    """The results after the last turn; the first of them are carried into the next turn, where they are `before`.

    Each depends on what was carried only as far as its own steps, those from `start` on, say.
    """
    made_by = {value.id: step for step in tape.steps[start:] for value in step.outputs}

    def carried(result: Value) -> list[int]:
        found: set[int] = set()
        stack, visited = [result], set()
        while stack:
            value = stack.pop()
            if value.id in visited:
                continue
            visited.add(value.id)
            stack += made_by[value.id].inputs if value.id in made_by else ()
            for i, each in enumerate(before):
                if each.id == value.id and i not in found:
                    found.add(i)
                    stack.append(results[i])
        return sorted(found)

    after = []
    for result in results:
        way = carried(result)
        operands = [result, *(before[i] for i in way), *(results[i] for i in way)]
        after.append(tape.link("loop", operands, result, place))
    return after


def _cond(eqn: Any, operands: list[Value], place: _Place, tape: _Tape) -> list[Value]:
    which, *operands = operands
    tapes = [_Tape(tape.ids, []) for _ in eqn.params["branches"]]
    results = [_walk(branch, operands, place, each) for branch, each in zip(eqn.params["branches"], tapes, strict=True)]
    costliest = max(tapes, key=lambda each: sum(macs(step) * step.times for step in each.steps))
    for each in tapes:
        tape.steps.extend(each.steps if each is costliest else [step._replace(times=0) for step in each.steps])
    either = zip(eqn.outvars, *results, strict=True)
    return [tape.link("join", [which, *values], var.aval, place) for var, *values in either]


_CONTROL = {"scan": _scan, "while": _while, "cond": _cond}


def _arguments(values: Iterable[Value]) -> frozenset[int]:
    return frozenset().union(*(value.arguments for value in values))


def _open(program: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr, closed or not, and its constants."""
    return getattr(program, "jaxpr", program), getattr(program, "consts", ())


def _callee(eqn: Any) -> Any:
    """The jaxpr that an equation calls as it is (jit, remat, a custom derivative), or None.

    It is told by its arguments and results being the equation's own: `reduce`, say, has a jaxpr for two scalars.
    """

    def shapes(atoms: Iterable[Any]) -> list[Any]:
        return [getattr(atom.aval, "shape", ()) for atom in atoms]

    for param in eqn.params.values():
        if hasattr(param, "eqns"):
            jaxpr, _ = _open(param)
            if [shapes(jaxpr.invars), shapes(jaxpr.outvars)] == [shapes(eqn.invars), shapes(eqn.outvars)]:
                return param
    return None


def _names(eqn: Any) -> tuple[str, ...]:
    """The name scopes of an equation, without what transformations add.

    Linen names a call of another method than `__call__` "module.method": that is the module itself. einsum names
    its product by the subscripts ("ij,jk->ik"): that is no place.
    """
    names: list[str] = []
    for part in eqn.source_info.name_stack.stack:
        if type(part).__name__ == "Scope" and "->" not in part.name:
            module, _, method = part.name.partition(".")
            if not method.isidentifier():
                names.append(part.name)
            elif names[-1:] != [module]:
                names.append(module)
    return tuple(names)
