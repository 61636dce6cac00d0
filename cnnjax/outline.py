# SPDX-License-Identifier: Apache-2.0
"""A program that is run once, at little cost of compilation: what is alike in it becomes one loop.

The initialisation of a network is a few kinds of operations (a normal number for each weight of a 3x3 kernel of 64 to
64 channels), repeated for every layer. Compiled as it stands, each repetition is optimised anew, and that took longer
than compiling the training step. Here the calls of one function at the same shapes, none of which needs another's
result, are the turns of a loop, whose body is compiled once however deep the network. It is one program, so that the
compilation cache keeps it whole.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
from jax.interpreters import partial_eval
from jax.sharding import Sharding

from cnnjax import devices
from cnnjax.types import Array, PyTree

# Of LLVM, 0 to 3. At 1 jaxlib 0.10's draws are those of 3, to the bit, for a third of the time; at 0 they are not.
_CPU_OPTIONS = {"xla_backend_optimization_level": 1}


def outlined(function: Callable[..., PyTree], *, sharding: PyTree = None) -> Callable[..., PyTree]:
    """`jax.jit(function)`, but for the last bit where that would fuse a draw with what follows.

    Args:
      function: pure, of arrays.
      sharding: of every array that is returned, one for all or a tree of them; None: the default.

    Returns:
      A function that returns what `function` returns; no two of its arrays share a buffer. It does not wait for them.
    """

    @functools.cache
    def compiled(backend: str) -> Callable[..., PyTree]:
        return jax.jit(functools.partial(_run, function), compiler_options=_CPU_OPTIONS if backend == "cpu" else None)

    def run(*args: PyTree) -> PyTree:
        results = compiled(jax.default_backend())(np.int32(1), *args)
        if sharding is None or jax.process_count() == 1:
            return jax.device_put(results, sharding, may_alias=False)
        lies = jax.tree.map(lambda _: sharding, results) if isinstance(sharding, Sharding) else sharding
        return jax.tree.map(lambda x, each: devices.place(np.asarray(x), each), results, lies)

    return run


def _run(function: Callable[..., PyTree], once: Array, *args: PyTree) -> PyTree:
    """`function(*args)` with its calls in loops; `once` is 1, which only the compiler does not know."""
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    # A network's initialisation also runs its forward pass, for shapes: that is left out.
    jaxpr, used = partial_eval.dce_jaxpr(program.jaxpr, [True] * len(program.out_avals))
    inputs = [leaf for leaf, needed in zip(jax.tree.leaves(args), used, strict=True) if needed]
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, program.consts, strict=True))
    values |= dict(zip(jaxpr.invars, inputs, strict=True))

    def value(atom: Any) -> Any:
        aval: Any = atom.aval
        return jnp.asarray(atom.val, aval.dtype) if isinstance(atom, Literal) else values[atom]

    for alike in _groups(jaxpr):
        operands = [[value(atom) for atom in eqn.invars] for eqn in alike]
        for eqn, results in zip(alike, _results(alike[0], operands, once), strict=True):
            values.update(zip(eqn.outvars, results, strict=True))
    return jax.tree.unflatten(jax.tree.structure(shapes), [value(atom) for atom in jaxpr.outvars])


def _results(eqn: JaxprEqn, operands: Sequence[Sequence[Array]], once: Array) -> list[Any]:
    """What the operation gives for each row of operands; there is one, unless it is of a kind to be repeated."""
    if _is_call(eqn):
        return _in_turn(jaxpr_as_fun(eqn.params["jaxpr"]), operands, once)

    def bound(*operands: Array) -> Sequence[Array]:
        results = eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))
        return results if eqn.primitive.multiple_results else [results]

    if len(operands) == 1:
        return [bound(*operands[0])]
    columns = [jnp.stack(column) for column in zip(*operands, strict=True)]
    return list(zip(*jax.vmap(bound)(*columns), strict=True))


def _in_turn(call: Callable[..., Sequence[Array]], operands: Sequence[Sequence[Array]], once: Array) -> list[Any]:
    """The results of `call` for each row of operands, in a loop of a turn for each row."""
    if len(operands) > 1:
        columns = [jnp.stack(column) for column in zip(*operands, strict=True)]
        return list(zip(*jax.lax.map(lambda row: call(*row), columns), strict=True))
    # A loop of a known single turn the compiler would unfold, and fuse what is in it with what follows.
    start = [jnp.zeros(shape.shape, shape.dtype) for shape in jax.eval_shape(call, *operands[0])]
    return [jax.lax.fori_loop(0, once, lambda *_: call(*operands[0]), start)]


def _groups(jaxpr: Jaxpr) -> list[list[JaxprEqn]]:
    """The operations in an order in which they can be run, those together that are alike and as far from the inputs."""
    depth: dict[Any, int] = {}
    groups: dict[tuple[Any, ...], list[JaxprEqn]] = {}
    for eqn in jaxpr.eqns:
        far = 1 + max((depth.get(atom, 0) for atom in eqn.invars if not isinstance(atom, Literal)), default=0)
        depth.update(dict.fromkeys(eqn.outvars, far))
        groups.setdefault((far, *_kind(eqn)), []).append(eqn)
    return [groups[key] for key in sorted(groups, key=lambda key: key[0])]


def _kind(eqn: JaxprEqn) -> tuple[Any, ...]:
    """What operations that are alike have in common: jax traces calls of one function at the same shapes once."""
    if _is_call(eqn):
        return (id(eqn.params["jaxpr"]),)
    if _makes_keys(eqn):
        return eqn.primitive.name, str(eqn.params), *(str(atom.aval) for atom in eqn.invars)
    return (id(eqn),)


def _is_call(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name in ("jit", "pjit")


def _makes_keys(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name.startswith("random_")
