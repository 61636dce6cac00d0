# SPDX-License-Identifier: Apache-2.0
"""Runs a program once at little cost of compilation: what is alike in it is compiled once.

The initialisation of a network is a few kinds of operations (a normal number for each weight of a 3x3 kernel of 64 to
64 channels), repeated for every layer. Compiled whole, each repetition is optimised anew, and that took longer than
compiling the training step. Here each operation is a call, compiled once for each shape, however deep the network.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun
from jax.sharding import Sharding

from cnnjax import devices
from cnnjax.types import PyTree

# Of LLVM, 0 to 3. At 1 the numbers drawn are those of 3, to the bit, for a third of the time; at 0 they are not.
_CPU_OPTIONS = {"xla_backend_optimization_level": 1}


def run_outlined(function: Callable[..., PyTree], *args: PyTree, sharding: PyTree = None) -> PyTree:
    """`jax.jit(function)(*args)`, but for the last bit where that would fuse a draw with what follows.

    Args:
      function: pure, of arrays.
      args: its arguments.
      sharding: of every array that is returned, one for all or a tree of them; None: the default.

    Returns:
      What `function` returns; no two of its arrays share a buffer.
    """
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    jaxpr = program.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, program.consts, strict=True))
    values |= dict(zip(jaxpr.invars, jax.tree.leaves(args), strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for eqn in _live(jaxpr):
        operands = [value(atom) for atom in eqn.invars]
        primitive = eqn.primitive
        if primitive.name in ("jit", "pjit"):
            results = _compiled(eqn.params["jaxpr"])(*operands)
        else:
            results = primitive.bind(*operands, **primitive.get_bind_params(eqn.params))
        several = primitive.multiple_results
        values.update(zip(eqn.outvars, results if several else [results], strict=True))
    results = [value(atom) for atom in jaxpr.outvars]
    tree = jax.tree.unflatten(jax.tree.structure(shapes), results)
    if sharding is None or jax.process_count() == 1:
        return jax.device_put(tree, sharding, may_alias=False)
    if isinstance(sharding, Sharding):
        sharding = jax.tree.map(lambda _: sharding, shapes)
    return jax.tree.map(lambda x, lies: devices.place(np.asarray(x), lies), tree, sharding)


@functools.lru_cache(maxsize=256)
def _compiled(call: ClosedJaxpr) -> Callable[..., Any]:
    """A call as a program of its own; jax traces calls of the same shapes to the same jaxpr, which is found again."""
    options = _CPU_OPTIONS if jax.default_backend() == "cpu" else None
    return jax.jit(jaxpr_as_fun(call), compiler_options=options)


def _live(jaxpr: Jaxpr) -> list[Any]:
    """The equations that the results depend on: a network's initialisation also runs its forward pass, for shapes."""
    needed = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or any(var in needed for var in eqn.outvars):
            needed.update(atom for atom in eqn.invars if not isinstance(atom, Literal))
            kept.append(eqn)
    return kept[::-1]
