# SPDX-License-Identifier: Apache-2.0
"""The leaves of a parameter tree: how many numbers each holds, and which layer its path says it belongs to."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from cnnjax.inspect.steps import Step, Trace, Value
from cnnjax.types import PyTree

IMAGE = 2  # the image's place among the arguments (params, model_state, image)

# The last part of a path that says what a parameter does in its layer, and not which layer it is of.
_WEIGHTS = ("w", "k", "kernel", "kernels", "weight", "weights", "filter", "filters", "scale", "gamma", "alpha")
_BIASES = ("b", "bias", "biases", "beta", "offset", "shift", "coefficient")
_STATISTICS = ("mean", "var", "variance", "moving", "running", "avg", "average")
_ROLES = frozenset((*_WEIGHTS, *_BIASES, *_STATISTICS))


class Leaf(NamedTuple):
    """One array of the parameters or of the model_state.

    Attributes:
      group: the layer it belongs to, as parts of its path; () when its path names none.
      size: how many parameters it holds; 0 in the model_state.
      is_state: whether it is of the model_state.
    """

    group: tuple[str, ...]
    size: int
    is_state: bool


def find_leaves(params: PyTree, model_state: PyTree) -> list[Leaf]:
    """The leaves of both trees in their order: those of `params`, then those of `model_state`."""
    leaves = []
    for tree, is_state in ((params, False), (model_state, True)):
        found = [(path_names(path), leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
        pairs = _weight_and_bias(dict(found))
        for names, shape in found:
            group = names[:-1] if names[:-1] in pairs else _group(names)
            leaves.append(Leaf(group, 0 if is_state else math.prod(shape), is_state))
    return leaves


def path_names(path: Sequence[Any]) -> tuple[str, ...]:
    """A key path of jax as names: ("conv1", "kernel"). The `value` inside an NNX variable is left out."""
    names = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path]
    if len(path) > 1 and names[-1] == "value" and isinstance(path[-1], jax.tree_util.GetAttrKey):
        names.pop()
    return tuple(part for name in names for part in name.split("/") if part not in ("", "~"))


def _weight_and_bias(shapes: dict[tuple[str, ...], tuple[int, ...]]) -> set[tuple[str, ...]]:
    """The parents that are pairs (weight, bias): leaves 0 and 1, the second as long as the first is wide."""
    pairs = set()
    for parent in {names[:-1] for names in shapes if names[-1:] == ("0",)}:
        weight, bias = shapes[*parent, "0"], shapes.get((*parent, "1"))
        if len(weight) > 1 and bias == weight[-1:] and (*parent, "2") not in shapes:
            pairs.add(parent)
    return pairs


def _group(names: tuple[str, ...]) -> tuple[str, ...]:
    """The layer that a path tells: conv1 of conv1/kernel, dense of w_dense, block/1 of block/w1."""
    if not names:
        return ()
    *parents, last = names
    words = last.split("_")
    while words and words[-1].lower() in _ROLES:
        words.pop()
    while words and words[0].lower() in _ROLES:
        words.pop(0)
    numbered = re.fullmatch(r"([A-Za-z]+)(\d+)", words[0]) if len(words) == 1 else None
    if numbered and numbered[1].lower() in _ROLES:
        words = [numbered[2]]
    return (*parents, "_".join(words)) if words else tuple(parents)


class Part(NamedTuple):
    """A leaf, or the slice of it that belongs to one turn of each opened scan around."""

    leaf: int
    turns: tuple[int, ...]
    size: int


class Use(NamedTuple):
    """A step on the image's way, with the leaves that its other operands are made of."""

    step: Step
    parts: frozenset[Part]


def find_uses(trace: Trace, leaves: Sequence[Leaf]) -> list[Use]:
    """The steps of a traced `apply(params, model_state, image)` that depend on the image."""
    made_of = {
        value.id: frozenset([Part(i, (), leaves[i].size)]) for i, value in enumerate(trace.inputs[: len(leaves)])
    }
    uses = []
    for step in trace.steps:
        parts = frozenset[Part]().union(*(made_of.get(value.id, ()) for value in step.inputs))
        if any(on_image_path(value) for value in step.outputs):
            uses.append(Use(step, parts))
            continue
        if step.primitive == "index" and (turn := step.params["index"]) is not None:
            length = step.inputs[0].shape[0]
            parts = frozenset(Part(part.leaf, (*part.turns, turn), part.size // length) for part in parts)
        made_of.update((value.id, parts) for value in step.outputs)
    return uses


def on_image_path(value: Value) -> bool:
    """Whether a value depends on the image."""
    return IMAGE in value.arguments
