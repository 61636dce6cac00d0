# SPDX-License-Identifier: Apache-2.0
"""A run of identical blocks as one `nn.scan`: traced and compiled once, whatever its length.

The blocks a to b of a network are then one module `block{a}-{b}` whose leaves are stacked on axis 0, in `params` and
in `batch_stats` alike; `unstack` and `stack` go to ordinary names (`block{a}`, ..., `block{b}`) and back.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnjax.errors import UsageError
from cnnjax.types import Array, PyTree

_RUN = re.compile(r"(.*\D)(\d+)-(\d+)")
# What a turn's backward pass finds stored; the rest, one number for another, is computed again from it.
_SUMS = ("reduce_sum", "reduce_max", "reduce_window_max", "reduce_window_sum")
_STORED = ("conv_general_dilated", "dot_general", *_SUMS, "cond", "while", "scan", "random_bits")


def run_name(name: str, first: int, last: int) -> str:
    """What the blocks `first` to `last` are called as one: "block2-9"."""
    return f"{name}{first}-{last}"


def scan_blocks(block: nn.Module, x: Array, *, length: int, train: bool) -> Array:
    """Applies `block` `length` times in a row, each time with parameters, state and dropout of its own.

    What the backward pass needs of a turn is copied into stacks. So these are only what convolutions, products and sums
    gave: half the memory of a ResNet's step.

    Args:
      block: a module `block(x, train=...)` whose result is shaped like x; named by `run_name`.
      x: the input of the first turn.
      length: turns, which is the length of axis 0 of every leaf of the block's variables.
      train: as in `cnnjax.types.Model`.

    Returns:
      The result of the last turn.
    """

    def turn(block: nn.Module, x: Array) -> tuple[Array, None]:
        return block(x, train=train), None

    turn = nn.remat(turn, policy=lambda primitive, *_, **__: primitive.name in _STORED, prevent_cse=False)
    # True stands for every collection (params, batch_stats, captured intermediates) and every random stream.
    scanned = nn.scan(turn, variable_axes={True: 0}, split_rngs={True: True}, length=length)
    return scanned(block, x)[0]


def unstack(tree: PyTree) -> PyTree:
    """`tree` (params or model_state) with each stacked run taken apart into its blocks: block2-9 to block2 ... block9.

    Without a run the tree comes back equal. The leaves are arrays; for shapes, `jax.eval_shape(unstack, tree)`.
    """
    if not isinstance(tree, Mapping):
        return tree
    taken: dict[str, Any] = {}
    for key, value in tree.items():
        if run := block_names(key):
            for i, name in enumerate(run):
                taken[name] = jax.tree.map(lambda leaf, i=i: leaf[i], value)
        else:
            taken[key] = unstack(value)
    return taken


def stack(tree: PyTree, like: PyTree) -> PyTree:
    """The inverse of `unstack`: blocks joined into the runs that `like` (arrays or shapes) has; else as in `tree`.

    Raises:
      UsageError: a block of a run is missing, or is not shaped as its neighbours.
    """
    if not isinstance(tree, Mapping) or not isinstance(like, Mapping):
        return tree
    runs = {key: run for key in like if (run := block_names(key))}
    in_runs = {name for run in runs.values() for name in run}
    joined = {key: stack(value, like.get(key)) for key, value in tree.items() if key not in in_runs}
    for key, run in runs.items():
        if missing := [name for name in run if name not in tree]:
            raise UsageError(
                f"{missing[0]} is missing, one of {key}; there is {', '.join(map(str, tree)) or 'nothing'}"
            )
        try:
            joined[key] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(tree[name] for name in run))
        except (ValueError, TypeError) as error:
            raise UsageError(f"the blocks of {key} do not have the same arrays, so they cannot be stacked") from error
    return joined


def turn_path(path: Sequence[str], turns: Sequence[int]) -> str:
    """A parameter's path, with the block of each scan's turn in place of the run of blocks: "stage1/block3/conv1"."""
    left = iter(turns)
    return "/".join(run[next(left, 0)] if (run := block_names(part)) else part for part in path)


def block_names(key: Any) -> list[str]:
    """The names of the blocks in the run `key`; [] if it is none."""
    match = _RUN.fullmatch(key) if isinstance(key, str) else None
    return [f"{match[1]}{i}" for i in range(int(match[2]), int(match[3]) + 1)] if match else []
