# SPDX-License-Identifier: Apache-2.0
"""Changes of colour, one draw for the whole picture.

Images are float32 [H,W,C]. Values may leave 0..1: the papers do not clip, a normalised input has no bounds of its
own, and clipping would make the result depend on the order.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.augment.arithmetic import mean, normal_levels, one_of, unfused, uniform_between
from cnnjax.types import Array

# Luma of ITU-R BT.601 (0.299, 0.587, 0.114), which Pillow and torchvision take for gray, in whole parts of 1024.
_LUMA = np.asarray((306, 601, 117), np.float32) / 1024

# Of the covariance of the RGB values of a random subset of ImageNet's training images in 0..1, the eigenvectors
# in columns; as published with fb.resnet.torch (S. Gross and M. Wilber, 2016), datasets/imagenet.lua.
IMAGENET_EIGENVALUES = np.asarray((0.2175, 0.0188, 0.0045), np.float32)
IMAGENET_EIGENVECTORS = np.asarray(
    ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203)), np.float32
)


def brightness(key: Array, image: Array, *, amount: float) -> Array:
    """Adds one number, uniform within +-`amount`, to all values."""
    return image + uniform_between(key, -amount, amount)


def contrast(key: Array, image: Array, *, amount: float) -> Array:
    """Stretches all values about their mean by one factor, uniform within 1 +- `amount`."""
    return _stretch(image, mean(image), uniform_between(key, 1 - amount, 1 + amount))


def channel_gain(key: Array, image: Array, *, amount: float) -> Array:
    """Multiplies each channel by a factor of its own, uniform within 1 +- `amount`."""
    return image * uniform_between(key, 1 - amount, 1 + amount, (1, 1, image.shape[-1]))


def saturation(key: Array, image: Array, *, amount: float) -> Array:
    """Stretches the colours of an RGB image about their gray by one factor, uniform within 1 +- `amount`."""
    # The pixels in parts of 4096: so all products and sums are exact, in whatever order they are taken.
    coarse = jnp.round(image * 4096) / 4096
    gray = jnp.einsum("hwc,c->hw", coarse, jnp.asarray(_LUMA), precision=jax.lax.Precision.HIGHEST)
    return _stretch(image, gray[..., None], uniform_between(key, 1 - amount, 1 + amount))


def _stretch(image: Array, centre: Array, factor: Array) -> Array:
    return centre + unfused(factor * (image - centre))


def pca_noise(key: Array, image: Array, *, std: float) -> Array:
    """Adds one colour to an RGB image: along each axis of ImageNet's colours, N(0, std) times the eigenvalue.

    Reference: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks",
    2012, section 4.1, with std 0.1.
    """
    weights = one_of(key, std * normal_levels(), (3,))
    return image + pca_color(weights).reshape(1, 1, 3)


def pca_color(weights: Array) -> Array:
    """The colour [3] with `weights` [3], in units of the eigenvalues, along ImageNet's axes."""
    axes = jnp.asarray(IMAGENET_EIGENVECTORS * IMAGENET_EIGENVALUES)
    # Not a matrix product, which accelerators round to fewer bits.
    return jnp.sum(unfused(axes * weights.reshape(1, 3)), axis=1)
