# SPDX-License-Identifier: Apache-2.0
"""What each pixel has to do with the answer: gradients of a class's logit, plain, averaged, guided and integrated.

All take `explain`, the gradient of any model's logit, which `make_gradient` gives: the same functions serve every
network, and guided backpropagation is the gradient of another one,
`make_gradient(with_guided_relu(model), params, model_state)`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import RunError
from cnnjax.types import Array, Model, ModelState, Params

GradientFn = Callable[[Array, Array | np.ndarray], tuple[Array, Array]]
"""`explain(image, target)`: image [B,H,W,C] and classes int32 [B] to logits [B] and their gradient [B,H,W,C]."""

_NOTHING = 1e-6  # a change of the logit below this is none, in units of the logit


class Completeness(NamedTuple):
    """How far attributions add up to what they explain (axiom 'completeness', Sundararajan et al., section 3).

    Attributes:
      total: [B] float32, the sum of the attributions of an image.
      difference: [B] float32, the logit at the image minus that at the baseline.
      relative_error: [B] float32, |total - difference| / |difference|.
    """

    total: np.ndarray
    difference: np.ndarray
    relative_error: np.ndarray


def make_gradient(model: Model, params: Params, model_state: ModelState) -> GradientFn:
    """The gradient of a class's logit by the image, as a compiled function of image and class.

    Reference: Simonyan, Vedaldi and Zisserman 2014, arXiv:1312.6034, section 3.

    Raises:
      When called: RunError: the network has no logits.
    """

    @jax.jit
    def explain(params: Params, model_state: ModelState, image: Array, target: Array) -> tuple[Array, Array]:
        def total(image: Array) -> tuple[Array, Array]:
            outputs, _ = model.apply(params, model_state, image, train=False)
            if "logits" not in outputs:
                raise RunError("the network has no logits, so there is no class to explain")
            chosen = jnp.take_along_axis(outputs["logits"], target[:, None], axis=1)[:, 0]
            return jnp.sum(chosen), chosen  # images do not see each other: the sum's gradient is each one's own

        (_, chosen), gradient = jax.value_and_grad(total, has_aux=True)(image)
        return chosen, gradient

    return lambda image, target: explain(params, model_state, image, jnp.asarray(target, jnp.int32))


def smooth_grad(
    explain: GradientFn,
    image: Array,
    target: Array | np.ndarray,
    key: Array,
    *,
    num_samples: int = 32,
    noise: float = 0.15,
) -> Array:
    """The mean gradient over noisy copies of the image.

    Args:
      explain: from `make_gradient`.
      image: float32 [B,H,W,C], as the network takes it.
      target: int32 [B].
      key: of the noise; a function of it alone.
      num_samples: copies.
      noise: standard deviation of the normal noise, as a fraction of each image's range (maximum minus minimum).

    Returns:
      float32 [B,H,W,C], signed.

    Reference: Smilkov et al. 2017, arXiv:1706.03825; there 50 copies, noise of 0.1 to 0.2.
    """
    extent = jnp.max(image, axis=(1, 2, 3), keepdims=True) - jnp.min(image, axis=(1, 2, 3), keepdims=True)
    total = jnp.zeros_like(image)
    for i in range(num_samples):
        drawn = jax.random.normal(jax.random.fold_in(key, i), image.shape, image.dtype)
        total += explain(image + noise * extent * drawn, target)[1]
    return total / num_samples


def integrated_gradients(
    explain: GradientFn, image: Array, target: Array | np.ndarray, baseline: Array, *, num_steps: int = 128
) -> tuple[Array, Completeness]:
    """The gradient averaged on the straight way from a baseline to the image, times the way.

    Args:
      explain: from `make_gradient`.
      image: float32 [B,H,W,C], as the network takes it.
      target: int32 [B].
      baseline: what counts as "nothing there", in the network's input; broadcast to [B,H,W,C].
      num_steps: places of the midpoint rule; exact for a linear network with one.

    Returns:
      attributions: float32 [B,H,W,C], signed, in units of the logit.
      completeness: of their sum.

    Reference: Sundararajan, Taly and Yan 2017, arXiv:1703.01365, equation 1.
    """
    start = jnp.broadcast_to(baseline, image.shape)
    total = jnp.zeros_like(image)
    for i in range(num_steps):
        total += explain(start + (i + 0.5) / num_steps * (image - start), target)[1]
    attributions = (image - start) * total / num_steps
    difference = np.asarray(explain(image, target)[0] - explain(start, target)[0])
    return attributions, completeness(np.asarray(attributions), difference)


def completeness(attributions: np.ndarray, difference: np.ndarray) -> Completeness:
    """Compares the sums of attributions [B,...] with the differences [B] of the logit that they should give."""
    total = attributions.reshape(len(attributions), -1).sum(axis=1)
    return Completeness(total, difference, np.abs(total - difference) / np.maximum(np.abs(difference), _NOTHING))


def magnitude(attributions: Array) -> Array:
    """[B,H,W] from [B,H,W,C]: how much a pixel matters at all, the largest of its channels' absolute values."""
    return jnp.max(jnp.abs(attributions), axis=-1)


def signed(attributions: Array) -> Array:
    """[B,H,W] from [B,H,W,C]: what a pixel does for the class (above 0) or against it, summed over its channels."""
    return jnp.sum(attributions, axis=-1)
