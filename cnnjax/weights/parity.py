# SPDX-License-Identifier: Apache-2.0
"""Whether our network computes what the original does: activations layer by layer, then the logits."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from cnnjax.errors import RunError
from cnnjax.report.table import format_table
from cnnjax.types import Array, Model, ModelState, Params
from cnnjax.weights.names import Place
from cnnjax.weights.original import activations

TOLERANCE = 1e-4
"""Largest difference that passes, relative to the layer's largest activation; of logits below 1, absolute."""
LOGITS = "logits"


class Comparison(NamedTuple):
    """One layer here and there.

    Attributes:
      ours: name here.
      theirs: name in the original.
      absolute: largest difference; None when the two have other shapes.
      relative: the same, divided by the original's largest activation.
      shapes: ours and theirs.
    """

    ours: str
    theirs: str
    absolute: float | None
    relative: float | None
    shapes: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def agrees(self) -> bool:
        """Whether the difference is within TOLERANCE."""
        if self.absolute is None or self.relative is None:
            return False
        return min(self.relative, self.absolute if self.ours == LOGITS else self.relative) <= TOLERANCE


def compare(
    model: Model,
    params: Params,
    model_state: ModelState,
    original: Any,
    found: Mapping[str, Place],
    image: np.ndarray,
) -> list[Comparison]:
    """Compares each layer that has weights, in the order of computation, and last the logits.

    Args:
      model: without scanned blocks, whose layers are not to be told apart; only a Linen network shows its layers.
      params: of `model`.
      model_state: of `model`.
      original: a `torch.nn.Module` that holds the same weights.
      found: from `names.places`: which module there is which layer here.
      image: float32 [B,H,W,C], as it enters the network.
    """
    outputs, ours = _ours(model, params, model_state, image)
    theirs, logits = activations(original, image)
    modules = {_layer(name): place.name.rpartition(".")[0] for name, place in found.items()}
    pairs = [(layer, modules[layer]) for layer in ours if modules.get(layer) in theirs]
    rows = [_compare(layer, module, np.asarray(ours[layer]), theirs[module]) for layer, module in pairs]
    return [*rows, _compare(LOGITS, "output", np.asarray(outputs["logits"]), logits)]


def check(rows: list[Comparison]) -> None:
    """Raises RunError when a layer or the logits differ: names the first that does, and by how much."""
    for row in rows:
        if not row.agrees:
            there = f"{row.theirs} of the original"
            if row.absolute is None:
                raise RunError(f"the first layer that differs is {row.ours}: {row.shapes[0]}, {there}: {row.shapes[1]}")
            raise RunError(
                f"the first layer that differs from {there} is {row.ours}: by {row.absolute:.2g} "
                f"({row.relative:.2g} of its largest activation); the config is of another variant of the network"
            )


def table(rows: list[Comparison]) -> str:
    """The comparison as text."""
    cells = [
        (
            row.ours,
            row.theirs,
            "x".join(map(str, row.shapes[0])),
            "other shape" if row.absolute is None else f"{row.absolute:.1e}",
            "-" if row.relative is None else f"{row.relative:.1e}",
            "" if row.agrees else "differs",
        )
        for row in rows
    ]
    return format_table(("layer", "original", "shape", "difference", "relative", ""), cells, "lllrrl")


def _ours(
    model: Model, params: Params, model_state: ModelState, image: np.ndarray
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The outputs, and each Linen layer's output by its dotted name, in the order of computation."""
    order: list[str] = []

    @jax.jit
    def run(params: Params, model_state: ModelState, image: Array) -> Any:
        seen: dict[str, Array] = {}

        def keep(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            result = call(*args, **kwargs)
            if context.method_name == "__call__" and isinstance(result, jax.Array):
                seen[".".join(context.module.path)] = result
            return result

        with nn.intercept_methods(keep):
            outputs, _ = model.apply(params, model_state, image, train=False)
        order[:] = seen  # jit hands dicts back sorted
        return outputs, seen

    outputs, seen = run(params, model_state, image)
    return outputs, {name: seen[name] for name in order}


def _layer(native: str) -> str:
    return native.rpartition(".")[0].removeprefix("params.").removeprefix("model_state.batch_stats.")


def _compare(layer: str, module: str, ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    if ours.ndim == 2 and theirs.ndim == 4 and theirs.shape[1:3] == (1, 1):
        theirs = theirs[:, 0, 0]  # a dense layer that is a convolution there
    shapes = ours.shape, theirs.shape
    if ours.shape != theirs.shape:
        return Comparison(layer, module, None, None, shapes)
    absolute = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0))
    largest = float(np.abs(theirs).max(initial=0.0))
    return Comparison(layer, module, absolute, absolute / largest if largest else absolute, shapes)
