# SPDX-License-Identifier: Apache-2.0
"""How long a network takes for an image on this machine: the compiled forward pass, median of repeated calls."""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.report.environment import environment
from cnnjax.types import Model

WARM_UP = 2  # calls that are not counted: the first ones allocate
MIN_CALLS, MAX_CALLS, ENOUGH_SECONDS = 5, 200, 2.0


def seconds_per_image(model: Model, image_shape: tuple[int, int, int], batch_size: int) -> float:
    """The time of one evaluation of a batch, by its size: median of at least MIN_CALLS calls after WARM_UP.

    Weights and images are random: the arithmetic takes as long as with trained ones. The images lie on the device.

    Args:
      model: the network; it computes in its own dtype.
      image_shape: (H, W, C), float32.
      batch_size: B, images at once.
    """
    image = jax.ShapeDtypeStruct((batch_size, *image_shape), jnp.float32)
    abstract = jax.eval_shape(model.init, jax.random.key(0), image)
    random = np.random.default_rng(0)
    params, model_state = jax.tree.map(lambda leaf: _random(leaf, random), abstract)
    pixels = jnp.asarray(random.standard_normal(image.shape, np.float32))
    # The logits alone, as in use: what else the network names is not computed for nobody.
    forward = jax.jit(lambda *args: model.apply(*args, train=False)[0]["logits"])
    times: list[float] = []
    for call in range(WARM_UP + MAX_CALLS):
        start = time.perf_counter()
        jax.block_until_ready(forward(params, model_state, pixels))
        if call >= WARM_UP:
            times.append(time.perf_counter() - start)
        if len(times) >= MIN_CALLS and sum(times) > ENOUGH_SECONDS:
            break
    return statistics.median(times) / batch_size


def _random(leaf: Any, random: np.random.Generator) -> jax.Array:
    """Weights that keep activations in range: no number overflows or is denormal, which would take another time."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.zeros(leaf.shape, leaf.dtype)
    if len(leaf.shape) < 2:  # biases, scales, and running variances, which are above 0
        return jnp.asarray(random.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
    kernel = random.standard_normal(leaf.shape, np.float32) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
    return jnp.asarray(kernel, leaf.dtype)


def machine() -> str:
    """What the times are measured on: the processor and its usable cores, or the accelerator."""
    device, cpu = jax.devices()[0], environment()["cpu"]
    return f"{cpu['model']}, {cpu['usable']} cores" if device.platform == "cpu" else device.device_kind
