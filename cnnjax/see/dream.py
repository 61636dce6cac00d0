# SPDX-License-Identifier: Apache-2.0
"""Activation maximisation: the image that a neuron answers to most."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax.augment.geometry import translate, warp
from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.see.canvas import Canvas, total_variation
from cnnjax.types import Array, Model, ModelState, Params

PLACES = ("mean", "center")
_STRONGER = (4, 4, 8, 8, 16, 16, 32, 32, 64, 64)  # noise to begin with, in turn, where a unit feels no change


class Dream(NamedTuple):
    """What was found.

    Attributes:
      pixel: float32 [n,H,W,C] in 0..1.
      activation: float32 [n], of the units at these images as they are.
      history: float32 [num_steps,n], of the activation on the way, at the jittered images.
    """

    pixel: np.ndarray
    activation: np.ndarray
    history: np.ndarray


def unit_values(value: Array, place: str) -> Array:
    """[B,C] from an output [B,...,C]: the mean over a channel's map, or the neuron in the middle of it.

    Raises:
      UsageError: `place` is neither "mean" nor "center".
    """
    if place not in PLACES:
        raise UsageError(unknown("place", place, PLACES))
    between = tuple(range(1, value.ndim - 1))
    if place == "mean":
        return jnp.mean(value, axis=between)
    return value[(slice(None), *(value.shape[axis] // 2 for axis in between))]


def dream(
    model: Model,
    params: Params,
    model_state: ModelState,
    layer: str,
    unit: Sequence[int] | np.ndarray,
    key: Array,
    *,
    canvas: Canvas,
    mean: np.ndarray,
    std: np.ndarray,
    place: str = "mean",
    scale: np.ndarray | float = 1.0,
    smoothness: float = 0.0,
    jitter: int = 2,
    rotate: float = 5.0,
    num_steps: int = 256,
    learning_rate: float = 0.05,
) -> Dream:
    """Climbs from noise to an image that excites a unit, for a batch of units of a layer at once (Adam).

    Each step looks at the image moved and turned a little at random, so that what excites the unit is a form and no
    arrangement of single pixels. A unit that is off at the first noise begins with stronger noise. The dream of a
    unit does not depend on the others of the batch, but for rounding.

    Args:
      model: any pair of functions.
      params: as `model.init` makes them.
      model_state: likewise.
      layer: an output of shape [B,...,C].
      unit: int [n], channels of it.
      key: of all that is random; a function of it alone.
      canvas: what is changed: the pixels or their frequencies.
      mean: broadcast to [1,1,1,C] and
      std: likewise: the network's input is (pixel - mean) / std.
      place: "mean" of the channel's map, or the neuron at its "center".
      scale: [n] or one number: what counts as much activation, against which `smoothness` is weighed.
      smoothness: weight of the total variation in the objective activation / scale - smoothness * variation; 0 in
        the first quarter of the steps, then growing, in full force from the middle on.
      jitter: pixels that the image is moved by at most; what enters is the nearest pixel.
      rotate: degrees that it is turned by at most; 0 turns none and leaves the resampling out.
      num_steps: of Adam.
      learning_rate: in the units of the canvas.

    Raises:
      UsageError: no such layer, unit or place.
      RunError: the activation is not finite.

    Reference: Erhan et al. 2009; Simonyan, Vedaldi and Zisserman 2014, arXiv:1312.6034, section 2; Olah, Mordvintsev
      and Schubert 2017, "Feature Visualization".
    """
    units = np.asarray(unit, np.int32)
    tx = optax.adam(learning_rate)
    weight = jnp.broadcast_to(1 / jnp.asarray(scale, jnp.float32), units.shape)
    rows = jax.vmap(lambda i: jax.random.fold_in(key, i))(units)

    def activation(params: Params, model_state: ModelState, pixel: Array) -> Array:
        outputs, _ = model.apply(params, model_state, (pixel - mean) / std, train=False)
        if layer not in outputs:
            raise UsageError(unknown("layer", layer, outputs))
        values = unit_values(outputs[layer], place)
        if wrong := [int(i) for i in units if not 0 <= i < values.shape[-1]]:
            raise UsageError(f"layer {layer!r} has units 0 to {values.shape[-1] - 1}, but no unit {wrong[0]}")
        return jnp.take_along_axis(values, jnp.asarray(units)[:, None], axis=1)[:, 0]

    def shaken(key: Array, image: Array) -> Array:
        if rotate:
            turn_key, key = jax.random.split(key)
            angle = jax.random.uniform(turn_key, minval=-1.0) * np.deg2rad(rotate)
            image = warp(image, jnp.cos(angle), jnp.sin(angle), 0.0, 1.0, fill=None)
        down, right = jax.random.randint(key, (2,), -jitter, jitter + 1)
        return translate(image, down, right, most=jitter, fill=None)

    # One step a call, not a loop in the program: XLA on CPUs is slow at convolutions inside loops.
    @jax.jit
    def step(
        params: Params, model_state: ModelState, numbers: Array, moments: optax.OptState, i: Array, smoothness: Array
    ) -> tuple[Array, optax.OptState, Array]:
        keys = jax.vmap(lambda row: jax.random.fold_in(row, i))(rows)

        def loss(numbers: Array) -> tuple[Array, Array]:
            pixel = canvas.pixel(numbers)
            excited = activation(params, model_state, jax.vmap(shaken)(keys, pixel))
            gain = excited * weight - smoothness * total_variation(pixel)
            return -jnp.sum(gain), excited  # images do not see each other: the sum's gradient is each one's own

        gradient, excited = jax.grad(loss, has_aux=True)(numbers)
        updates, moments = tx.update(gradient, moments)
        return canvas.project(optax.apply_updates(numbers, updates)), moments, excited  # pyright: ignore

    @jax.jit
    def finish(params: Params, model_state: ModelState, numbers: Array) -> tuple[Array, Array]:
        pixel = canvas.pixel(numbers)
        return pixel, activation(params, model_state, pixel)

    @jax.jit
    def is_silent(params: Params, model_state: ModelState, numbers: Array) -> Array:
        """[n]: whether no change of the image, however small, changes the activation: a ReLU that is off."""
        slope = jax.grad(lambda numbers: jnp.sum(activation(params, model_state, canvas.pixel(numbers))))(numbers)
        return jnp.all(slope == 0, axis=tuple(range(1, numbers.ndim)), keepdims=True)

    numbers = canvas.init(rows, 1.0)
    for i, strength in enumerate(_STRONGER):
        silent = is_silent(params, model_state, numbers)
        if not silent.any():
            break
        others = jax.vmap(lambda row, i=i: jax.random.fold_in(row, 2**31 + i))(rows)  # far from the steps' numbers
        numbers = jnp.where(silent, canvas.init(others, strength), numbers)
    moments, history = tx.init(numbers), []
    for i in range(num_steps):
        # The prior comes late: alone, before the unit is awake, it would flatten what can wake it, at Adam's full pace.
        share = smoothness * min(max(4 * i / num_steps - 1, 0.0), 1.0)
        numbers, moments, excited = step(params, model_state, numbers, moments, jnp.int32(i), jnp.float32(share))
        history.append(excited)
    pixel, reached = (np.asarray(each) for each in finish(params, model_state, numbers))
    if not np.isfinite(reached).all():
        raise RunError(f"the activation of {layer} is not finite; the network's parameters are damaged or it diverged")
    return Dream(pixel, reached, np.asarray(jnp.stack(history)) if history else np.zeros((0, len(units)), np.float32))
