# SPDX-License-Identifier: Apache-2.0
"""Changes of position: mirror, crop, shift, and rotation with shear and scale.

Each augmentation `f(key, image, ...)` draws its numbers and hands them to a function without randomness.
Images are float32 [H,W,C]. A `fill` is the colour that enters at the border, [1,1,C] or [1,1,1], or None for the
nearest pixel of the picture.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.augment.arithmetic import blend, levels, one_of, unfused, uniform_below, uniform_between
from cnnjax.types import Array

Fill = np.ndarray | None
Number = Array | float


def mirror(key: Array, image: Array, *, probability: float) -> Array:
    """Flips left and right with the given probability."""
    return jnp.where(jax.random.uniform(key) < probability, image[:, ::-1], image)


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
    box_height = jnp.clip(jnp.round(root / root_ratio), 1, height)
    box_width = jnp.clip(jnp.round(root * root_ratio), 1, width)
    top = jnp.floor(place_y * (height - box_height + 1))
    left = jnp.floor(place_x * (width - box_width + 1))
    return enlarge(image, top, left, box_height, box_width)


def enlarge(image: Array, top: Number, left: Number, box_height: Number, box_width: Number) -> Array:
    """The box, in whole pixels (float32), resized bilinearly to [H,W,C]; nothing outside the box is used."""
    height, width, _ = image.shape

    def positions(count: int, start: Number, size: Number) -> Array:
        # (i + 1/2) * size / count - 1/2, the same fraction of the box for pixel centres; exact but for the division.
        inside = ((2 * jnp.arange(count, dtype=jnp.float32) + 1) * size - count) / (2 * count)
        return start + jnp.clip(inside, 0, size - 1)

    row = positions(height, top, box_height).reshape(height, 1)
    column = positions(width, left, box_width).reshape(1, width)
    return _sample(image, *jnp.broadcast_arrays(row, column))


def shift(key: Array, image: Array, *, most: int, fill: Fill) -> Array:
    """Moves by whole pixels, uniform within `most` either way on each axis: pad, then crop at random."""
    down, right = uniform_below(key, 2 * most + 1, (2,)) - most
    return translate(image, down, right, most=most, fill=fill)


def translate(image: Array, down: Array | int, right: Array | int, *, most: int, fill: Fill) -> Array:
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
    # One pixel of fill all round: between the last pixel and it the two blend, and beyond it there is only fill.
    row = jnp.clip(row + (middle_y + 1), 0, height + 1)
    column = jnp.clip(column + (middle_x + 1), 0, width + 1)
    return _sample(pad(image, 1, fill), row, column)


def _sample(image: Array, row: Array, column: Array) -> Array:
    """Bilinear values [h,w,C] of `image` at positions [h,w] within 0..H-1 and 0..W-1."""
    height, width, channels = image.shape
    next_row, next_column = min(height - 1, 1) * width, min(width - 1, 1)  # 0 where there is only one
    top = jnp.clip(jnp.floor(row).astype(jnp.int32), 0, max(height - 2, 0))
    left = jnp.clip(jnp.floor(column).astype(jnp.int32), 0, max(width - 2, 0))
    # A pixel joined on, never read: so the image is stored once, not computed anew for each of the four gathers.
    flat = jnp.concatenate([image.reshape(height * width, channels), jnp.zeros((1, channels))])
    corner = top * width + left

    def take(offset: int) -> Array:
        return flat.at[corner + offset].get(mode="promise_in_bounds")

    across, down = (column - left)[..., None], (row - top)[..., None]
    above = blend(take(0), take(next_column), across)
    below = blend(take(next_row), take(next_row + next_column), across)
    return blend(above, below, down)


def pad(image: Array, amount: int, fill: Fill) -> Array:
    """`amount` more pixels on all four sides: [H + 2 amount, W + 2 amount, C]."""
    if fill is None:
        return jnp.pad(image, ((amount, amount), (amount, amount), (0, 0)), mode="edge")
    for axis in (0, 1):
        # Joined, not masked: a mask would be computed anew for each pixel that the resampling reads.
        side = list(image.shape)
        side[axis] = amount
        border = jnp.broadcast_to(fill, side)
        image = jnp.concatenate([border, image, border], axis)
    return image
