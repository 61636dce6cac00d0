# SPDX-License-Identifier: Apache-2.0
"""The kernels of a network's convolutions, found in its program, whatever it calls them.

A kernel is what the convolution is given: a sparse, masked or standardised one shows as it works. Networks without
convolutions have templates instead: the weights by which their first dense layer looks at the pixels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from cnnjax.inspect.leaves import find_leaves, find_uses, path_names
from cnnjax.inspect.steps import LINKS, Step, Value
from cnnjax.layers.scan import turn_path
from cnnjax.see.features import trace_outputs
from cnnjax.types import Model, ModelState, Params


class Kernel(NamedTuple):
    """The weights of one convolution.

    Attributes:
      name: the path in the parameters of the largest that it is made of ("stage1/block2/conv1/kernel").
      value: [h,w,I,O] float32, I the input channels that each of the O output channels sees.
      feeds: the network's outputs that are computed after it and before the next kernel.
    """

    name: str
    value: np.ndarray
    feeds: tuple[str, ...]


def find_kernels(
    model: Model, params: Params, model_state: ModelState, image_shape: tuple[int, int, int]
) -> list[Kernel]:
    """The kernels in the order in which the image meets them, each of a scan's turns apart.

    Without a convolution: the weights of the first dense layer, if it sees the pixels, as pictures [H,W,C,O]; [] if
    there is none either.

    Args:
      model: any pair of functions.
      params: as `model.init` makes them.
      model_state: likewise.
      image_shape: (H, W, C) of an image.
    """
    traced, outputs = trace_outputs(model, params, model_state, image_shape)
    paths = [path_names(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    arrays = [*jax.tree.leaves(params), *jax.tree.leaves(model_state)]
    weights = _Weights(traced.steps, dict(zip((value.id for value in traced.inputs), arrays, strict=False)))
    uses = find_uses(traced, find_leaves(params, model_state))

    def found_by(read: Callable[[Step, _Weights], np.ndarray | None]) -> list[tuple[int, str, np.ndarray]]:
        found = []
        for step, all_parts in uses:
            parts = sorted(part for part in all_parts if part.leaf < len(paths))
            value = read(step, weights) if parts else None
            if value is not None:
                largest = max(parts, key=lambda part: part.size)
                found.append((step.outputs[0].id, turn_path(paths[largest.leaf], largest.turns), value))
        return found

    found = found_by(_convolution) or found_by(partial(_templates, image_shape=image_shape))[:1]
    ends = [*(start for start, _, _ in found), float("inf")][1:]
    return [
        Kernel(name, value, tuple(key for key, out in outputs.items() if start <= out.id < end))
        for (start, name, value), end in zip(found, ends, strict=True)
    ]


def first_layer(kernels: Sequence[Kernel], channels: int) -> Kernel | None:
    """The first kernel if it looks at the pixels themselves, of an image of so many channels."""
    return kernels[0] if kernels and kernels[0].value.shape[2] == channels else None


def strongest(kernel: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The slices of a kernel [h,w,I,O] worth a look: at most so many input and output channels, both rising.

    They are the output channels with the largest Euclidean norm, then the input channels that weigh most in these.
    """
    norms = np.sum(np.asarray(kernel, np.float64) ** 2, axis=(0, 1))
    outputs = np.sort(np.argsort(-norms.sum(axis=0), kind="stable")[:columns])
    inputs = np.sort(np.argsort(-norms[:, outputs].sum(axis=1), kind="stable")[:rows])
    return inputs, outputs


class _Weights:
    """Values that are made of parameters alone, computed when they are asked for."""

    def __init__(self, steps: Sequence[Step], known: Mapping[int, Any]) -> None:
        self._made_by = {value.id: step for step in steps for value in step.outputs}
        self._known = dict(known)

    def get(self, value: Value) -> np.ndarray | None:
        """The value as float32; None where it is not made of parameters alone."""
        try:
            return np.asarray(self._compute(value), np.float32)
        except Exception:  # anything may be in a user's program; what cannot be computed is not shown
            return None

    def _compute(self, value: Value) -> Any:
        if value.constant is not None:
            return value.constant
        if value.id not in self._known:
            step = self._made_by[value.id]
            operands = [self._compute(each) for each in step.inputs]
            if step.primitive == "index" and step.params["index"] is not None:
                made = [operands[0][step.params["index"]]]
            elif step.primitive in LINKS:
                raise ValueError(f"{step.primitive} has no one value")
            else:
                primitive = step.eqns[-1].primitive
                result = primitive.bind(*operands, **step.params)
                made = result if primitive.multiple_results else [result]
            self._known.update((each.id, array) for each, array in zip(step.outputs, made, strict=True))
        return self._known[value.id]


def _convolution(step: Step, weights: _Weights) -> np.ndarray | None:
    """The kernel of a convolution of pictures as [h,w,I,O]."""
    if step.primitive != "conv_general_dilated" or len(step.inputs[1].shape) != 4:
        return None
    value = weights.get(step.inputs[1])
    out, into, height, width = step.params["dimension_numbers"].rhs_spec
    return None if value is None else value.transpose(height, width, into, out)


def _templates(step: Step, weights: _Weights, image_shape: tuple[int, int, int]) -> np.ndarray | None:
    """The weights of a dense layer that sees the pixels in their order, as [H,W,C,O]."""
    if step.primitive != "dot_general" or len(step.inputs[1].shape) != 2:
        return None
    (_, contracted), _ = step.params["dimension_numbers"]
    if contracted != (0,) or step.inputs[1].shape[0] != math.prod(image_shape):
        return None
    value = weights.get(step.inputs[1])
    return None if value is None else value.reshape(*image_shape, -1)
