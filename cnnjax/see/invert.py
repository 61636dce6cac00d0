# SPDX-License-Identifier: Apache-2.0
"""Inversion of a representation: an image, found from noise, that a layer cannot tell from a given one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.see.canvas import Canvas, total_variation
from cnnjax.types import Array, Model, ModelState, Params


class Inversion(NamedTuple):
    """What was found.

    Attributes:
      pixel: float32 [n,H,W,C] in 0..1.
      relative_error: float32 [n], |representation - target| / |target|; 0 is a perfect match, 1 that of silence.
    """

    pixel: np.ndarray
    relative_error: np.ndarray


def invert(
    model: Model,
    params: Params,
    model_state: ModelState,
    layer: str,
    target: Array,
    key: Array,
    *,
    canvas: Canvas,
    mean: np.ndarray,
    std: np.ndarray,
    smoothness: float = 0.0,
    coarse: float = 1.0,
    num_steps: int = 400,
    learning_rate: float = 0.05,
) -> Inversion:
    """Searches images whose representation in a layer is `target` (Adam, its step shrinking to 0 along a cosine).

    What is minimised: |representation - target|^2 / |target|^2 + weight * total variation. The weight may begin
    high and fall: broad forms are then found before fine ones, and the search is not caught in noise.

    Args:
      model: any pair of functions.
      params: as `model.init` makes them.
      model_state: likewise.
      layer: an output of shape [B,...].
      target: [n,...], what it is for the given images.
      key: of the noise to begin with; a function of it alone.
      canvas: what is changed: the pixels or their frequencies.
      mean: broadcast to [1,1,1,C] and
      std: likewise: the network's input is (pixel - mean) / std.
      smoothness: the last weight of the total variation of the pixels, which decides where the layer does not care.
      coarse: the first weight, in multiples of the last; falls evenly on a logarithmic scale for 3/4 of the steps.
      num_steps: of Adam.
      learning_rate: the first, in the units of the canvas.

    Raises:
      UsageError: no such layer.
      RunError: the representation is not finite.

    Reference: Mahendran and Vedaldi 2015, arXiv:1412.0035, equations 1 to 3.
    """
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, max(num_steps, 1)))
    size = jnp.maximum(_length(target), 1e-12)

    def distance(params: Params, model_state: ModelState, pixel: Array, target: Array) -> Array:
        outputs, _ = model.apply(params, model_state, (pixel - mean) / std, train=False)
        if layer not in outputs:
            raise UsageError(unknown("layer", layer, outputs))
        return _length(outputs[layer] - target)

    # One step a call, not a loop in the program: XLA on CPUs is slow at convolutions inside loops.
    @jax.jit
    def step(
        params: Params, model_state: ModelState, target: Array, numbers: Array, moments: optax.OptState, weight: Array
    ) -> tuple[Array, optax.OptState]:
        def loss(numbers: Array) -> Array:
            pixel = canvas.pixel(numbers)
            costs = (distance(params, model_state, pixel, target) / size) ** 2 + weight * total_variation(pixel)
            return jnp.sum(costs)  # images do not see each other: the sum's gradient is each one's own

        updates, moments = tx.update(jax.grad(loss)(numbers), moments)
        return canvas.project(optax.apply_updates(numbers, updates)), moments  # pyright: ignore

    @jax.jit
    def finish(params: Params, model_state: ModelState, target: Array, numbers: Array) -> tuple[Array, Array]:
        pixel = canvas.pixel(numbers)
        return pixel, distance(params, model_state, pixel, target) / size

    numbers = canvas.init(jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(target))), 1.0)
    moments = tx.init(numbers)
    for i in range(num_steps):
        weight = smoothness * coarse ** (1 - min(i / (0.75 * num_steps), 1.0))
        numbers, moments = step(params, model_state, target, numbers, moments, jnp.float32(weight))
    pixel, error = (np.asarray(each) for each in finish(params, model_state, target, numbers))
    if not np.isfinite(error).all():
        raise RunError(f"the output {layer} is not finite; the network's parameters are damaged or it diverged")
    return Inversion(pixel, error)


def psnr(pixel: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[n] float64, decibels: the peak signal-to-noise ratio of images [n,H,W,C] in 0..1; infinite where they agree."""
    squares = ((np.asarray(pixel, np.float64) - other) ** 2).reshape(len(pixel), -1).mean(axis=1)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(squares)


def _length(value: Array) -> Array:
    """[n]: Euclidean, with a slope of 0 at 0."""
    squares = jnp.sum(value.astype(jnp.float32).reshape(value.shape[0], -1) ** 2, axis=1)
    return jnp.where(squares == 0, 0.0, jnp.sqrt(jnp.where(squares == 0, 1.0, squares)))
