# SPDX-License-Identifier: Apache-2.0
"""Changes of position: mirror, crop, shift, and rotation with shear and scale.

Each augmentation `f(key, image, ...)` draws its numbers and hands them to a function without randomness.
Images are float32 [H,W,C]. A `fill` is the colour that enters at the border, [1,1,C] or [1,1,1], or None for the
nearest pixel of the picture, or REFLECT for the picture itself, mirrored at its outermost pixels.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.augment.arithmetic import blend, levels, one_of, unfused, uniform_below, uniform_between
from cnnjax.types import Array

REFLECT: Literal["reflect"] = "reflect"
Fill = np.ndarray | Literal["reflect"] | None
Whole = Array | int
Number = Array | float


def mirror(key: Array, image: Array, *, probability: float) -> Array:
    """Flips left and right with the given probability."""
    return jnp.where(jax.random.uniform(key) < probability, image[:, ::-1], image)


def mirror_alternately(key: Array, epoch: Array, image: Array, *, probability: float) -> Array:
    """Flips with the given probability in epoch 0, and from then on in every second epoch.

    `key` is the image's, the same in all epochs, so that two epochs in a row show it both ways round.

    Reference: Jordan 2024 (arXiv:2404.00498), section 3.6.
    """
    first = jax.random.uniform(key) < probability
    return jnp.where(first ^ (epoch % 2 == 1), image[:, ::-1], image)


def resized_crop(key: Array, image: Array, *, area: tuple[float, float], aspect: tuple[float, float]) -> Array:
    """Enlarges a random box to the size of the image.

    The box has a fraction of the area uniform in `area`, and a width / height in pixels uniform in `aspect` on a
    logarithmic scale. Its sides are rounded to whole pixels, and one that is longer than the image's is cut to
    it, where the paper says nothing: such boxes have less area than was drawn.

    Reference: Szegedy et al., "Going deeper with convolutions", 2015, section 6.
    """
    height, width, _ = image.shape
    size_key, ratio_key = jax.random.split(key)
    fraction, place_y, place_x = uniform_between(size_key, (area[0], 0, 0), (area[1], 1, 1), (3,))
    root = jnp.sqrt(fraction * (height * width))
    root_ratio = one_of(ratio_key, np.exp(levels(*np.log(aspect)) / 2))
    box_height = jnp.clip(jnp.round(root / root_ratio), 1, height).astype(jnp.int32)
    box_width = jnp.clip(jnp.round(root * root_ratio), 1, width).astype(jnp.int32)
    top = jnp.floor(place_y * (height - box_height + 1)).astype(jnp.int32)
    left = jnp.floor(place_x * (width - box_width + 1)).astype(jnp.int32)
    return enlarge(image, top, left, box_height, box_width)


def enlarge(image: Array, top: Whole, left: Whole, box_height: Whole, box_width: Whole) -> Array:
    """The box, in whole pixels, resized bilinearly to [H,W,C]; nothing outside the box is used."""
    height, width, _ = image.shape

    def positions(count: int, start: Whole, size: Whole) -> tuple[Array, Array]:
        # (i + 1/2) * size / count - 1/2, the same fraction of the box for pixel centres, in parts of 2 count.
        parts = jnp.clip((2 * jnp.arange(count) + 1) * size - count, 0, (size - 1) * (2 * count))
        return start + parts // (2 * count), (parts % (2 * count)) / (2 * count)

    row, down = (each.reshape(height, 1) for each in positions(height, top, box_height))
    column, across = (each.reshape(1, width) for each in positions(width, left, box_width))
    return _sample(image, *jnp.broadcast_arrays(row, column, down, across))


def shift(key: Array, image: Array, *, most: int, fill: Fill) -> Array:
    """Moves by whole pixels, uniform within `most` either way on each axis: pad, then crop at random."""
    down, right = uniform_below(key, 2 * most + 1, (2,)) - most
    return translate(image, down, right, most=most, fill=fill)


def translate(image: Array, down: Whole, right: Whole, *, most: int, fill: Fill) -> Array:
    """Moves by `down` and `right` whole pixels, both within `most` either way."""
    return jax.lax.dynamic_slice(pad(image, most, fill), (most - down, most - right, 0), image.shape)


def affine(key: Array, image: Array, *, rotate: float, shear: float, scale: tuple[float, float], fill: Fill) -> Array:
    """Scales, shears and rotates about the centre in one bilinear resampling.

    The angles are uniform within `rotate` and `shear` degrees either way, the magnification uniform in `scale`.
    """
    angle_key, slope_key, scale_key = jax.random.split(key, 3)
    angle = np.deg2rad(levels(-rotate, rotate))
    cos, sin = one_of(angle_key, np.stack([np.cos(angle), np.sin(angle)], axis=1))
    slope = one_of(slope_key, np.tan(np.deg2rad(levels(-shear, shear))))
    return warp(image, cos, sin, slope, uniform_between(scale_key, *scale), fill=fill)


def warp(image: Array, cos: Number, sin: Number, slope: Number, scale: Number, *, fill: Fill) -> Array:
    """Magnifies by `scale`, moves each row `slope` pixels further right than the one above, turns counter-clockwise.

    `cos` and `sin` are the angle's. Bilinear, without an anti-aliasing filter when `scale` is below 1.
    """
    height, width, _ = image.shape
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    y = jnp.arange(height, dtype=jnp.float32).reshape(height, 1) - middle_y
    x = jnp.arange(width, dtype=jnp.float32).reshape(1, width) - middle_x
    # The inverse matrix, from each output pixel back to the input; y points down.
    row = unfused(sin / scale * x) + unfused(cos / scale * y)
    column = unfused((cos - unfused(slope * sin)) / scale * x) - unfused((sin + unfused(slope * cos)) / scale * y)
    if isinstance(fill, str):
        (row, down), (column, across) = _folded(row + middle_y, height), _folded(column + middle_x, width)
        return _sample(image, row, column, down, across)
    # One pixel of fill all round: between the last pixel and it the two blend, and beyond it there is only fill.
    row = jnp.clip(row + (middle_y + 1), 0, height + 1)
    column = jnp.clip(column + (middle_x + 1), 0, width + 1)
    top, left = jnp.floor(row), jnp.floor(column)
    return _sample(pad(image, 1, fill), top.astype(jnp.int32), left.astype(jnp.int32), row - top, column - left)


def _folded(place: Array, length: int) -> tuple[Array, Array]:
    """Positions anywhere, mirrored at the outermost of `length` pixels: the pixel before, and the share past it."""
    period = 2 * (length - 1)
    within = jnp.mod(place, max(period, 1))
    within = jnp.clip(jnp.minimum(within, period - within), 0, length - 1)
    before = jnp.floor(within)
    return before.astype(jnp.int32), within - before


def _sample(image: Array, row: Array, column: Array, down: Array, across: Array) -> Array:
    """Bilinear values [h,w,C] of `image`: shares `down` and `across` of the way from pixels (row, column) to the next.

    All are [h,w]. The pixel after the last is the last, so the shares do not matter there.
    """
    height, width, channels = image.shape
    # A pixel joined on, never read: so the image is stored once, not computed anew for each of the four gathers.
    flat = jnp.concatenate([image.reshape(height * width, channels), jnp.zeros((1, channels))])
    next_row, next_column = jnp.minimum(row + 1, height - 1), jnp.minimum(column + 1, width - 1)

    def take(y: Array, x: Array) -> Array:
        return flat.at[y * width + x].get(mode="promise_in_bounds")

    above = blend(take(row, column), take(row, next_column), across[..., None])
    below = blend(take(next_row, column), take(next_row, next_column), across[..., None])
    return blend(above, below, down[..., None])


def pad(image: Array, amount: int, fill: Fill) -> Array:
    """`amount` more pixels on all four sides: [H + 2 amount, W + 2 amount, C]."""
    if fill is None or isinstance(fill, str):
        mode = "edge" if fill is None else "reflect"
        return jnp.pad(image, ((amount, amount), (amount, amount), (0, 0)), mode=mode)
    for axis in (0, 1):
        # Joined, not masked: a mask would be computed anew for each pixel that the resampling reads.
        side = list(image.shape)
        side[axis] = amount
        border = jnp.broadcast_to(fill, side)
        image = jnp.concatenate([border, image, border], axis)
    return image
