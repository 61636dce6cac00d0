# SPDX-License-Identifier: Apache-2.0
"""Removal of a part of the picture: cutout and random erasing."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.augment.arithmetic import uniform_below, uniform_between
from cnnjax.types import Array

# Zhong et al. 2017, section 4.1: the area of the rectangle as a fraction, and its height / width.
ERASE_AREA = (0.02, 0.4)
ERASE_ASPECT = (0.3, 3.3)


def inside_box(
    shape: tuple[int, int], top: Array | int, left: Array | int, height: Array | int, width: Array | int
) -> Array:
    """Where [H,W,1] the pixels of a box are; it may hang over the border. bool."""
    y = jnp.arange(shape[0]).reshape(-1, 1, 1)
    x = jnp.arange(shape[1]).reshape(1, -1, 1)
    rows = (y >= top) & (y < top + height)
    columns = (x >= left) & (x < left + width)
    return jnp.logical_and(*jnp.broadcast_arrays(rows, columns))


def cutout(key: Array, image: Array, *, size: int, color: np.ndarray) -> Array:
    """Blanks a square of `size` pixels with `color`, [1,1,C] or [1,1,1], its centre uniform over the pixels.

    The square may hang over the border, which is the better choice in the paper. There the input is
    normalised before it is set to zero, hence the data's mean is the colour to give. An even square has its
    centre between pixels and lies half a pixel further up and left.

    Reference: DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", 2017,
    section 3.2.
    """
    height, width, _ = image.shape
    centre = uniform_below(key, jnp.asarray((height, width)), (2,))
    top, left = centre - size // 2
    return jnp.where(inside_box((height, width), top, left, size, size), color, image)


def random_erasing(key: Array, image: Array, *, probability: float) -> Array:
    """Fills a random rectangle with noise, each value uniform over the 256 levels of 0..1.

    A rectangle that is too long for the image is cut to it, where the paper draws again: one in 25 of those in a
    square image.

    Reference: Zhong et al., "Random erasing data augmentation", 2017, algorithm 1, with the random values (RE-R)
    that the paper recommends.
    """
    height, width, channels = image.shape
    box_key, noise_key = jax.random.split(key)
    low, high = (ERASE_AREA[0], ERASE_ASPECT[0], 0, 0, 0), (ERASE_AREA[1], ERASE_ASPECT[1], 1, 1, 1)
    fraction, aspect, place_y, place_x, chance = uniform_between(box_key, low, high, (5,))
    pixels = fraction * (height * width)
    box_height = jnp.clip(jnp.round(jnp.sqrt(pixels * aspect)), 1, height)
    box_width = jnp.clip(jnp.round(jnp.sqrt(pixels / aspect)), 1, width)
    top = jnp.floor(place_y * (height - box_height + 1))
    left = jnp.floor(place_x * (width - box_width + 1))
    erased = inside_box((height, width), top, left, box_height, box_width) & (chance < probability)
    return jnp.where(erased, noise(noise_key, height, width, channels), image)


def noise(key: Array, height: int, width: int, channels: int) -> Array:
    """Random pixels [H,W,C] of the values k / 255, float32."""
    # Four values from each hashed word: a quarter of the cost of a draw for each.
    words = jax.random.bits(key, (height, width, -(-channels // 4), 1), jnp.uint32)
    levels = (words >> jnp.asarray((0, 8, 16, 24), jnp.uint32).reshape(1, 1, 1, 4)) & 0xFF
    return levels.reshape(height, width, -1)[..., :channels].astype(jnp.float32) / 255
