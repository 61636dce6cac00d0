# SPDX-License-Identifier: Apache-2.0
"""Mixing of two images and their labels: mixup and cutmix.

Both blend by a weight for each pixel, a constant or 0 in a box and 1 outside it, and the labels by its mean.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.augment.arithmetic import blend, levels, one_of
from cnnjax.augment.check import check_numbers
from cnnjax.augment.erase import inside_box
from cnnjax.types import Array, Config

MixFn = Callable[[Array, Array, Array, Array, Array], tuple[Array, Array]]
"""`mix(keys [B], image, partner_image, label [B,K], partner_label) -> (image, label)`."""


def needs_partner(augment: Config) -> bool:
    """Whether `config.augment` mixes each image with another one."""
    return augment.mixup > 0 or augment.cutmix > 0


def make_mix(augment: Config) -> MixFn:
    """The mixing of `config.augment`.

    Args:
      augment: `config.augment`; at least one of mixup and cutmix on. With both on each image takes either, with
        probability 1/2.

    Returns:
      `mix(keys, image, partner_image, label, partner_label) -> (image, label)`: one typed key a row [B], images
      float32 [B,H,W,C], labels float32 [B,K] that sum to 1.

    Raises:
      UsageError: a number of `config.augment` is out of range.
    """
    check_numbers(augment)
    kinds = []
    if augment.mixup > 0:
        kinds.append((mixup_weight, beta_quantiles(augment.mixup)))
    if augment.cutmix > 0:
        kinds.append((cutmix_weight, beta_quantiles(augment.cutmix)))

    def mix_one(
        key: Array, image: Array, partner_image: Array, label: Array, partner_label: Array
    ) -> tuple[Array, Array]:
        weight_key, kind_key = jax.random.split(key)
        weight, share = kinds[0][0](weight_key, image.shape[:2], kinds[0][1])
        for kind, quantiles in kinds[1:]:
            other, other_share = kind(weight_key, image.shape[:2], quantiles)
            first = jax.random.uniform(kind_key) < 0.5
            weight, share = jnp.where(first, weight, other), jnp.where(first, share, other_share)
        return blend(partner_image, image, weight), blend(partner_label, label, share)

    return jax.vmap(mix_one)


def mixup_weight(key: Array, shape: tuple[int, int], quantiles: np.ndarray) -> tuple[Array, Array]:
    """Weight [H,W,1] of the first image, the same for each pixel, from Beta(alpha, alpha); and its mean.

    Reference: Zhang et al., "mixup: beyond empirical risk minimization", 2018, section 2; drawn for each image by
    itself rather than once a batch.
    """
    share = one_of(key, quantiles)
    return jnp.broadcast_to(share, (*shape, 1)), share


def cutmix_weight(key: Array, shape: tuple[int, int], quantiles: np.ndarray) -> tuple[Array, Array]:
    """Weight [H,W,1] of the first image, 0 in a box of the image's proportions and 1 outside; and its mean.

    The box covers 1 - lambda of the image, lambda from Beta(alpha, alpha), has its centre anywhere and is cut at
    the border. The mean, which the label follows, counts the pixels that are left of it.

    Reference: Yun et al., "CutMix: regularization strategy to train strong classifiers with localizable features",
    2019, section 3.1 and algorithm A1.
    """
    height, width = shape
    share_key, place_key = jax.random.split(key)
    side = jnp.sqrt(1 - one_of(share_key, quantiles))
    place_y, place_x = jax.random.uniform(place_key, (2,))
    box_height, box_width = jnp.floor(height * side), jnp.floor(width * side)
    top = jnp.floor(place_y * height) - jnp.floor(box_height / 2)
    left = jnp.floor(place_x * width) - jnp.floor(box_width / 2)
    weight = 1 - inside_box(shape, top, left, box_height, box_width).astype(jnp.float32)
    return weight, jnp.mean(weight)


def beta_quantiles(alpha: float) -> np.ndarray:
    """Equally likely values of Beta(alpha, alpha), float64 [LEVELS].

    Their distribution function is nowhere off by more than 1 / (2 LEVELS). `jax.random.beta` is exact, but its
    nested loops of rejection take a second to compile.
    """
    from scipy.special import betaincinv

    return betaincinv(alpha, alpha, levels())
