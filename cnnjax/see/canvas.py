# SPDX-License-Identifier: Apache-2.0
"""Images that are searched for by gradient: what the search changes, and the pixels that it stands for."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.types import Array

_DARKEST = 0.02  # of a start colour, 0..1: a pixel at 0 or 1 itself has no slope under the logistic function


class Canvas(NamedTuple):
    """Images of one size, as numbers that a gradient step may change.

    Attributes:
      init: `init(keys [n], strength) -> numbers`: noise, for each image by its own key; little at a strength of 1.
      pixel: `pixel(numbers) -> float32 [n,H,W,C]`, in 0..1.
      project: what to do to the numbers after each step.
    """

    init: Callable[[Array, float], Array]
    pixel: Callable[[Array], Array]
    project: Callable[[Array], Array]


def pixel_canvas(shape: tuple[int, int, int], color: np.ndarray | float = 0.5, noise: float = 0.05) -> Canvas:
    """The numbers are the pixels, cut to 0..1 after each step (projected gradient).

    Args:
      shape: (H, W, C) of an image.
      color: 0..1, where the search begins; a number or [C].
      noise: standard deviation of the noise in it, 0..1.
    """
    start = jnp.broadcast_to(jnp.asarray(color, jnp.float32), (1, 1, shape[2]))

    def init(keys: Array, strength: float) -> Array:
        drawn = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
        return cut(start[None] + strength * noise * drawn)

    def cut(numbers: Array) -> Array:
        return jnp.clip(numbers, 0, 1)

    return Canvas(init, lambda numbers: numbers, cut)


def frequency_canvas(
    shape: tuple[int, int, int],
    color: np.ndarray | float = 0.5,
    mixing: np.ndarray | None = None,
    *,
    noise: float = 0.01,
    cut: bool = False,
) -> Canvas:
    """The numbers are Fourier coefficients, to be multiplied by 1/frequency as in photographs.

    So a step moves broad forms more than fine grain.

    Args:
      shape: (H, W, C) of an image.
      color: 0..1, where the search begins; a number or [C].
      mixing: [C,C], from independent colours to the image's, as `color_mixing` gives it; None leaves them alone.
      noise: standard deviation of the first coefficients.
      cut: what keeps pixels in 0..1. False: the logistic function, as in Lucid; a pixel that has become black or white
        hardly moves again. True: they are cut off, with the gradient as if they were not, so that they can return.

    Reference: Olah, Mordvintsev and Schubert 2017, "Feature Visualization", section "Preconditioning and
      parameterization"; scale and colours as in its code, github.com/tensorflow/lucid, lucid/optvis/param/spatial.py.
    """
    height, width, channels = shape
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])  # cycles a pixel
    gain = np.sqrt(height * width) / np.maximum(radius, 1 / max(height, width)) / 4
    gain = jnp.asarray(gain[None, :, :, None], jnp.float32)
    share = np.clip(np.broadcast_to(color, (1, 1, 1, channels)), _DARKEST, 1 - _DARKEST)
    start = jnp.asarray(share if cut else np.log(share / (1 - share)), jnp.float32)
    colors = None if mixing is None else jnp.asarray(mixing, jnp.float32)

    def init(keys: Array, strength: float) -> Array:
        drawn = jax.vmap(lambda key: jax.random.normal(key, (2, *radius.shape, channels)))(keys)
        return strength * noise * drawn

    def pixel(numbers: Array) -> Array:
        spectrum = jax.lax.complex(numbers[:, 0], numbers[:, 1]) * gain
        plane = jnp.fft.irfft2(spectrum, s=(height, width), axes=(1, 2))
        if colors is not None:
            plane = plane @ colors.T
        if not cut:
            return jax.nn.sigmoid(plane + start)
        free = plane / 4 + start  # the logistic function's slope at its middle: steps are as long
        return free + jax.lax.stop_gradient(jnp.clip(free, 0, 1) - free)

    return Canvas(init, pixel, lambda numbers: numbers)


def color_mixing(image: np.ndarray) -> np.ndarray:
    """[C,C] float32: turns independent colours into colours that vary together as those of the images do.

    The root of the pixels' covariance, scaled so that its longest column is 1, as in Lucid.

    Args:
      image: uint8 [N,H,W,C].
    """
    pixels = image.reshape(-1, image.shape[-1]).astype(np.float64)
    vectors, values, _ = np.linalg.svd(np.atleast_2d(np.cov(pixels, rowvar=False)))
    root = vectors * np.sqrt(values)[None]
    longest = np.linalg.norm(root, axis=0).max()
    return (root / longest if longest > 0 else np.eye(len(root))).astype(np.float32)


def total_variation(pixel: Array) -> Array:
    """[n]: how rough images [n,H,W,C] are, the mean length of the step to the pixels below and to the right.

    Reference: Rudin, Osher and Fatemi 1992; the prior of Mahendran and Vedaldi 2015 (arXiv:1412.0035, section 3.1)
    at beta = 1.
    """
    down = jnp.diff(pixel, axis=1, append=pixel[:, -1:])  # no step leaves the image, and no pixel is left out
    right = jnp.diff(pixel, axis=2, append=pixel[:, :, -1:])
    return jnp.mean(jnp.sqrt(down**2 + right**2 + 1e-8), axis=(1, 2, 3))  # the root of 0 has no slope
