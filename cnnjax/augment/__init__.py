# SPDX-License-Identifier: Apache-2.0
"""Random changes of training images, on the device: pure functions of a key and one image.

An augmentation is `f(key, image [H,W,C] float32, **numbers) -> image`; the ones that `config.augment` switches on
are composed, and vmapped once over the batch. Pixels go in as 0..1; the changes of colour may leave that range.
"""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from cnnjax.augment.arithmetic import unfused
from cnnjax.augment.check import check_image, check_numbers
from cnnjax.augment.color import brightness, channel_gain, contrast, pca_noise, saturation
from cnnjax.augment.erase import cutout, random_erasing
from cnnjax.augment.geometry import REFLECT, Fill, affine, mirror, mirror_alternately, resized_crop, shift
from cnnjax.augment.mix import MixFn, make_mix, needs_partner
from cnnjax.types import Array, Config

__all__ = ["AlternateFn", "AugmentFn", "MixFn", "make_alternate", "make_augment", "make_mix", "needs_partner"]

AugmentFn = Callable[[Array, Array], Array]
"""`augment(keys [B], images [B,H,W,C]) -> images`."""

AlternateFn = Callable[[Array, Array, Array], Array]
"""`alternate(keys [B], epochs [B], images [B,H,W,C]) -> images`."""


def make_alternate(augment: Config) -> AlternateFn | None:
    """The flips of `config.augment.mirror_mode = "alternating"`, before all other changes; None: there are none.

    `alternate(keys, epochs, images)` wants one typed key an image, the same in every epoch.
    """
    if augment.mirror_mode != "alternating" or not augment.mirror:
        return None
    return jax.vmap(partial(mirror_alternately, probability=augment.mirror))


def make_augment(augment: Config, mean: tuple[float, ...]) -> AugmentFn:
    """The augmentations that `config.augment` switches on, in the order of its keys, but for `make_alternate`'s.

    Args:
      augment: `config.augment`.
      mean: `config.data.mean` in 0..1, one number or one a channel: the colour of `fill="mean"` and of cutout.

    Returns:
      `augment(keys, images) -> images`: one typed key a row [B], float32 [B,H,W,C] in 0..1. A row's result depends
      on its own key and pixels only. The identity when nothing is switched on. It raises UsageError when traced
      with images that cannot be augmented so.

    Raises:
      UsageError: a number of `config.augment` is out of range.
    """
    check_numbers(augment)
    color = np.asarray(mean, np.float32).reshape(1, 1, -1)
    fills: dict[str, Fill] = {"mean": color, "black": np.zeros((1, 1, 1), np.float32), "edge": None, REFLECT: REFLECT}
    fill = fills[augment.fill]
    crop = {"area": tuple(augment.crop_area), "aspect": tuple(augment.crop_aspect)}
    turn = {"rotate": augment.rotate, "shear": augment.shear, "scale": tuple(augment.scale)}
    steps: list[tuple[bool, AugmentFn]] = [
        (augment.mirror > 0 and augment.mirror_mode == "random", partial(mirror, probability=augment.mirror)),
        (crop["area"] != (1, 1), partial(resized_crop, **crop)),
        (augment.shift > 0, partial(shift, most=augment.shift, fill=fill)),
        (turn != {"rotate": 0, "shear": 0, "scale": (1, 1)}, partial(affine, **turn, fill=fill)),
        (augment.brightness > 0, partial(brightness, amount=augment.brightness)),
        (augment.contrast > 0, partial(contrast, amount=augment.contrast)),
        (augment.channel_gain > 0, partial(channel_gain, amount=augment.channel_gain)),
        (augment.saturation > 0, partial(saturation, amount=augment.saturation)),
        (augment.pca_noise > 0, partial(pca_noise, std=augment.pca_noise)),
        (augment.cutout > 0, partial(cutout, size=augment.cutout, color=color)),
        (augment.erase > 0, partial(random_erasing, probability=augment.erase)),
    ]
    if not any(on for on, _ in steps):
        return lambda keys, images: images

    def augment_one(key: Array, image: Array) -> Array:
        for index, (on, step) in enumerate(steps):
            if on:
                # A stream of its own for each: switching one on leaves the draws of the others as they were.
                image = unfused(step(jax.random.fold_in(key, index), image))
        return image

    def augment_batch(keys: Array, images: Array) -> Array:
        check_image(augment, images.shape[1:])
        return jax.vmap(augment_one)(keys, images)

    return augment_batch
