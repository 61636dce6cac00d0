# SPDX-License-Identifier: Apache-2.0
"""Grad-CAM: where a layer's maps speak for a class."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.see.program import Layer, find_layers, with_delta
from cnnjax.types import Array, Model, ModelState, Params


def usable_layers(model: Model, params: Params, model_state: ModelState, image: Array) -> list[Layer]:
    """The maps [B,h,w,C] of more than one place on the way to the logits, in the order of computation.

    Raises:
      RunError: the network has no logits, or no such map.
    """
    found = [
        layer
        for layer in find_layers(model, params, model_state, image)
        if layer.reaches_logits and len(layer.shape) == 4 and layer.shape[1] * layer.shape[2] > 1
    ]
    if not found:
        raise RunError("Grad-CAM needs a map [B,h,w,C] on the way to the logits; the network's outputs name none")
    return found


def choose_layer(layers: Sequence[Layer], name: str | None) -> Layer:
    """The layer called `name`; for None the last one, where the paper looks.

    Raises:
      UsageError: there is none of that name among `layers`.
    """
    if name is None:
        return layers[-1]
    for layer in layers:
        if layer.name == name:
            return layer
    raise UsageError(unknown("layer with a map on the way to the logits:", name, [layer.name for layer in layers]))


def grad_cam(
    model: Model, params: Params, model_state: ModelState, image: Array, target: Array | np.ndarray, layer: Layer
) -> Array:
    """The layer's maps, weighted by the mean gradient of each, summed and cut at 0.

    Args:
      model: any pair of functions.
      params: as `model.init` makes them.
      model_state: likewise.
      image: float32 [B,H,W,C], as the network takes it.
      target: int32 [B], the classes explained.
      layer: of `usable_layers`.

    Returns:
      float32 [B,h,w], 0 and above, in units of the logit: of the size of the layer's maps, not yet of the image.

    Reference: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    apply = with_delta(model, layer.name)

    @jax.jit
    def compute(params: Params, model_state: ModelState, image: Array, target: Array) -> Array:
        def total(delta: Array) -> tuple[Array, Array]:
            outputs = apply(params, model_state, image, delta)
            chosen = jnp.take_along_axis(outputs["logits"], target[:, None], axis=1)
            return jnp.sum(chosen), outputs[layer.name]

        shape = (len(image), *layer.shape[1:])
        gradient, maps = jax.grad(total, has_aux=True)(jnp.zeros(shape, image.dtype))
        weight = jnp.mean(gradient, axis=(1, 2), keepdims=True)  # equation 1: [B,1,1,C]
        return jnp.maximum(jnp.sum(weight * maps, axis=-1), 0)  # equation 2

    return compute(params, model_state, image, jnp.asarray(target, jnp.int32))


def upsample(maps: Array, size: tuple[int, int]) -> Array:
    """Maps [B,h,w] to [B,H,W], bilinearly, as the paper does."""
    return jax.image.resize(maps, (len(maps), *size), "bilinear")
