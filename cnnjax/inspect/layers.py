# SPDX-License-Identifier: Apache-2.0
"""The layers of a traced network, in order, with their names, parameters and multiply-adds.

A layer is a convolution, a matrix product, a pooling, a flattening, or a module that holds parameters (BatchNorm).
A parameter goes to the first layer that uses it; a bias, to the layer whose result it is added to.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cnnjax.inspect.kinds import layer_types
from cnnjax.inspect.leaves import Leaf, Part, Use, find_uses, on_image_path
from cnnjax.inspect.receptive import Fields, ReceptiveField
from cnnjax.inspect.steps import VIEWS, Scope, Step, Trace, Value, macs


class Layer(NamedTuple):
    """A row of the table.

    Attributes:
      name: where it is in the network ("stage1/block2/conv1").
      type: conv, dense, dot (a product without parameters), max_pool, avg_pool, sum_pool, each also with global_
        before, flatten, batch_norm, norm, affine, or the operation by which a parameter enters ("gather").
      output_shape: of its result, without the batch axis.
      params: the parameters counted here.
      macs: multiply-adds for one image.
      neurons: numbers that it puts out for one image; 0 for "unused".
      receptive_field: what each of them sees of the image; None where they see nothing.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    params: int
    macs: int
    neurons: int
    receptive_field: ReceptiveField | None


@dataclass(eq=False)
class _Row:
    """A layer while the steps are read."""

    type: str
    scope: Scope
    value: Value  # its result
    group: Scope  # the layer that its parameters' paths name; () without any
    macs: int = 0
    params: int = 0


def find_layers(trace: Trace, leaves: Sequence[Leaf]) -> list[Layer]:
    """The layers of a traced `apply(params, model_state, image)`, whose first two arguments have these leaves.

    Parameters that the image's way does not use are in a last row, "unused": the rows add up to the leaves' sizes.
    """
    uses = _without_root(find_uses(trace, leaves))
    rows: list[_Row] = []
    owner: dict[int, _Row | None] = {}  # the layer that a value came out of last; None: there is no such one
    fresh: set[int] = set()  # results of convolutions and matrix products, before anything is done to them
    spread: set[int] = set()  # values divided by their own spread
    taken: set[Part] = set()
    left = [leaf.size for leaf in leaves]
    for (step, parts), layer_type in zip(uses, layer_types(uses), strict=True):
        data = [value.id for value in step.inputs if on_image_path(value)]
        owners = [owner.get(value) for value in data]
        source = owners[0] if all(each is owners[0] for each in owners) else _normalizing(owners, step)
        new = [part for part in sorted(parts - taken) if left[part.leaf] or leaves[part.leaf].is_state]
        has_state = any(leaves[part.leaf].is_state for part in new)
        group = _group(parts, leaves)
        row = None
        if layer_type is None and new:
            is_bias = step.primitive in ("add", "sub") and fresh.issuperset(data)
            row = _home(rows, source, step.scope, group, is_bias=is_bias, has_state=has_state)
            layer_type = "norm" if spread.intersection(data) else _entry(step)
        if row is None and layer_type is not None:
            row = _Row(layer_type, step.scope, step.outputs[0], group, macs(step) * step.times)
            rows.append(row)
        if row is not None:
            if has_state and row.type not in _PRODUCTS:
                row.type = "batch_norm"
            for part in new:
                count = min(part.size, left[part.leaf])
                left[part.leaf] -= count
                row.params += count
            taken.update(new)
        results, latest = [value.id for value in step.outputs], row or source
        owner.update(dict.fromkeys(results, latest))
        if latest is not None and latest.type == "norm" and latest.scope == step.scope:
            # It begins with a scale of a number a channel, which is then applied to the map.
            latest.value = max(latest.value, step.outputs[0], key=lambda value: math.prod(value.shape))
        if layer_type in _PRODUCTS or (step.primitive in VIEWS and fresh.issuperset(data)):
            fresh.update(results)
        if step.primitive in ("rsqrt", "sqrt") or (step.primitive in _SCALING and spread.intersection(data)):
            spread.update(results)
    fields = Fields(trace, trace.inputs[len(leaves)])
    layers = [_layer(name, row, fields) for name, row in zip(_names(rows), rows, strict=True)]
    return layers + ([Layer("unused", "unused", (), sum(left), 0, 0, None)] if sum(left) else [])


def _layer(name: str, row: _Row, fields: Fields) -> Layer:
    shape = row.value.shape[1:] if row.value.shape[:1] == (1,) else row.value.shape
    return Layer(name, row.type, shape, row.params, row.macs, math.prod(shape), fields.receptive_field(row.value))


def _normalizing(owners: Sequence[_Row | None], step: Step) -> _Row | None:
    """The normalisation that a step with results of several layers belongs to, if any: scale times (x - mean)."""
    norms = [row for row in owners if row is not None and row.type == "norm" and row.scope == step.scope]
    return norms[0] if norms and step.primitive in _SCALING else None


_PRODUCTS = ("conv", "dense", "dot")
_SCALING = (*VIEWS, "mul", "div")


def _home(
    rows: list[_Row], source: _Row | None, scope: Scope, group: Scope, *, is_bias: bool, has_state: bool
) -> _Row | None:
    """The layer that parameters belong to which come in by an elementwise step; None: a layer of their own."""
    for row in reversed(rows):
        if group and row.group == group:
            return row
    if source is None or (has_state and source.type in _PRODUCTS):
        return None
    if _words(scope):
        return source if source.scope == scope else None
    # Without scopes there are only the parameters' names, and a bias after its kernel tells itself by its place.
    return source if not group or is_bias else None


def _group(parts: Iterable[Part], leaves: Sequence[Leaf]) -> Scope:
    """The layer that the path of the largest part names, the turns of opened scans after the first name."""
    named = [part for part in sorted(parts) if leaves[part.leaf].group]
    if not named:
        return ()
    largest = max(named, key=lambda part: part.size)
    head, *rest = leaves[largest.leaf].group
    return (head, *largest.turns, *rest)


def _entry(step: Step) -> str:
    """The type of a layer that consists of its parameters alone."""
    return "affine" if step.primitive in ("add", "sub", "mul", "div") else step.primitive


def _words(scope: Scope) -> tuple[str, ...]:
    return tuple(part for part in scope if isinstance(part, str))


def _without_root(uses: list[Use]) -> list[Use]:
    """Scopes without the outermost name where all layers share it: a Linen module's own class."""
    layers = [use.step for use in uses if use.parts or use.step.primitive in ("conv_general_dilated", "dot_general")]
    layers = layers or [use.step for use in uses]
    heads = {step.scope[:1] for step in layers}
    if len(heads) != 1 or not _words(head := heads.pop()):
        return uses
    return [Use(step._replace(scope=step.scope[1:]) if step.scope[:1] == head else step, parts) for step, parts in uses]


def _names(rows: Sequence[_Row]) -> list[str]:
    """A name for each layer: its scope, else what its parameters are called, else its type; no two alike."""
    names: list[str] = []
    for row in rows:
        scope, group = _words(row.scope), _words(row.group)
        parts: Sequence[str | int]
        if scope:
            alone = not any(other is not row and other.scope[: len(row.scope)] == row.scope for other in rows)
            inside = group[len(scope) :] if group[: len(scope)] == scope else ()
            parts = row.scope if alone else (*row.scope, *(inside if group else (row.type,)))
        elif all(part.isdecimal() for part in group):  # a place in a list is no name: conv_0, conv_1
            parts = ["_".join([row.type, *group])]
        else:
            parts = row.group
        first = name = "/".join(map(str, _in_runs(parts)))
        number = 1
        while name in names:
            number += 1
            name = f"{first}_{number}"
        names.append(name)
    return names


_RUN = re.compile(r"(.*\D)(\d+)-(\d+)")


def _in_runs(parts: Sequence[str | int]) -> list[str | int]:
    """A name in which turn t of a scan over the blocks a to b, "block{a}-{b}", is the block that it is."""
    named: list[str | int] = []
    for part in parts:
        run = _RUN.fullmatch(named[-1]) if named and isinstance(named[-1], str) and str(part).isdecimal() else None
        if run:
            named[-1] = f"{run[1]}{int(run[2]) + int(part)}"
        else:
            named.append(part)
    return named
