# SPDX-License-Identifier: Apache-2.0
"""Noise of the network's input: what a denoising autoencoder is to take away again.

Reference: Vincent et al., "Extracting and composing robust features with denoising autoencoders", 2008: a share of
the pixels set to 0; Gaussian noise in the journal's version, JMLR 11 (2010), section 3.4.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnnjax.augment.arithmetic import normal_levels, one_of
from cnnjax.augment.check import check_numbers
from cnnjax.types import Array, Config


def has_noise(augment: Config) -> bool:
    """Whether `config.augment` puts noise on the input."""
    return augment.noise > 0 or augment.noise_drop > 0


def input_noise(key: Array, image: Array, *, std: float, drop: float) -> Array:
    """Adds N(0, std) to each value of an image [H,W,C] in 0..1, then blackens each pixel with probability `drop`.

    Values may leave 0..1. At a `std` of 0 nothing is added, at a `drop` of 0 nothing is blackened.
    """
    value_key, drop_key = jax.random.split(key)
    if std > 0:
        image = image + one_of(value_key, std * normal_levels(), image.shape)
    if drop > 0:
        image = jnp.where(jax.random.uniform(drop_key, (*image.shape[:2], 1)) < drop, 0.0, image)
    return image


def make_noise(augment: Config) -> Callable[[Array, Array], Array]:
    """`noise(keys [B], images [B,H,W,C]) -> images`, as `config.augment` says, one typed key a row.

    Raises:
      UsageError: a number of `config.augment` is out of range.
    """
    check_numbers(augment)
    return jax.vmap(lambda key, image: input_noise(key, image, std=augment.noise, drop=augment.noise_drop))
