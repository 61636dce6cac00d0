# SPDX-License-Identifier: Apache-2.0
"""The named intermediates of a network in the order in which an image meets them, and which channels say most."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.inspect.steps import Trace, Value
from cnnjax.inspect.trace import trace
from cnnjax.types import Array, Model, ModelState, Params

HEADS = ("logits", "recon")
"""Outputs that are the network's answer, and no intermediate."""


def trace_outputs(
    model: Model, params: Params, model_state: ModelState, image_shape: tuple[int, int, int]
) -> tuple[Trace, dict[str, Value]]:
    """The trace of a network on one image, and its named outputs [1,...] in the order in which they are computed.

    Args:
      model: any pair of functions.
      params: as `model.init` makes them, or their shapes.
      model_state: likewise.
      image_shape: (H, W, C) of an image.
    """
    names: list[str] = []

    def apply(params: Params, model_state: ModelState, image: Array) -> list[Array]:
        found = _arrays(model.apply(params, model_state, image, train=False)[0])
        names.extend(found)
        return list(found.values())

    traced = trace(apply, params, model_state, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    # Values are numbered as they come up in the program, and a head is the last word even if it is computed early.
    order = sorted(zip(names, traced.outputs, strict=True), key=lambda pair: (pair[0] in HEADS, pair[1].id))
    return traced, dict(order)


def layer_shapes(
    model: Model, params: Params, model_state: ModelState, image_shape: tuple[int, int, int]
) -> dict[str, tuple[int, ...]]:
    """The shapes, without the batch axis, of a network's outputs in the order in which they are computed."""
    values = trace_outputs(model, params, model_state, image_shape)[1]
    return {name: value.shape[1:] for name, value in values.items()}


def _arrays(outputs: Mapping[str, Any]) -> dict[str, Array]:
    return {name: value for name, value in outputs.items() if getattr(value, "ndim", 0) >= 2}


def activity(maps: np.ndarray) -> np.ndarray:
    """How much each channel says of an image: the standard deviation over the places of its map.

    A map that is the same everywhere says nothing of where things are, however large it is. A channel of one place
    says as much as it differs from 0.

    Args:
      maps: [h,w,C] or [C].

    Returns:
      [C] float64, 0 and more.
    """
    maps = np.asarray(maps, np.float64).reshape(-1, maps.shape[-1])
    return np.abs(maps[0]) if len(maps) == 1 else maps.std(axis=0)


def most_active(maps: np.ndarray, num: int) -> np.ndarray:
    """The `num` channels of maps [h,w,C] with the highest `activity`, highest first; of equals the first."""
    return np.argsort(-activity(maps), kind="stable")[:num]
