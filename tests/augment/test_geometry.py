# SPDX-License-Identifier: Apache-2.0
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.augment import geometry

pytestmark = pytest.mark.optimized

BLACK = np.zeros((1, 1, 1), np.float32)
NINE = np.full((1, 1, 1), 9, np.float32)


def gray(rows: Any) -> jax.Array:
    return jnp.asarray(rows, jnp.float32)[..., None]


def rows(image: jax.Array) -> list[list[float]]:
    assert image.dtype == jnp.float32
    return np.asarray(image)[..., 0].tolist()


def draws(augmentation: Any, image: jax.Array, count: int, **numbers: Any) -> np.ndarray:
    """[count,H,W,C]: the image as `count` keys change it."""
    keys = jax.random.split(jax.random.key(0), count)
    changed = jax.jit(jax.vmap(functools.partial(augmentation, **numbers), (0, None)))(keys, image)
    assert changed.dtype == jnp.float32
    return np.asarray(changed)


def warp(image: jax.Array, cos: float, sin: float, slope: float, scale: float, fill: Any) -> jax.Array:
    return jax.jit(functools.partial(geometry.warp, fill=fill))(image, cos, sin, slope, scale)


SQUARE = gray([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
RAMP = gray(np.tile(np.arange(16.0), (16, 1)))  # a pixel's value is its column


def test_mirror_flips_left_and_right_with_its_probability():
    assert rows(geometry.mirror(jax.random.key(0), SQUARE, probability=1.0)) == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    flipped = draws(geometry.mirror, SQUARE, 1000, probability=0.2)[:, 0, 0, 0] == 3
    assert 0.16 < flipped.mean() < 0.24


def test_translate_moves_by_whole_pixels():
    assert rows(geometry.translate(SQUARE, 1, -1, most=2, fill=NINE)) == [[9, 9, 9], [2, 3, 9], [5, 6, 9]]
    assert rows(geometry.translate(SQUARE, -2, 0, most=2, fill=BLACK)) == [[7, 8, 9], [0, 0, 0], [0, 0, 0]]
    assert rows(geometry.translate(SQUARE, 1, -1, most=1, fill=None)) == [[2, 3, 3], [2, 3, 3], [5, 6, 6]]


def test_mirror_alternately_shows_both_ways_round_in_turn():
    flip = functools.partial(geometry.mirror_alternately, image=SQUARE, probability=0.3)
    keys = jax.random.split(jax.random.key(0), 500)
    seen = [np.asarray(jax.vmap(flip, (0, None))(keys, jnp.asarray(epoch)))[:, 0, 0, 0] == 3 for epoch in range(4)]
    assert 0.24 < seen[0].mean() < 0.36
    assert (seen[1] == ~seen[0]).all() and (seen[2] == seen[0]).all() and (seen[3] == seen[1]).all()


def test_reflection_enters_at_the_border():
    assert rows(geometry.translate(SQUARE, 2, -1, most=2, fill="reflect")) == [[8, 9, 8], [5, 6, 5], [2, 3, 2]]
    image = np.asarray(jax.random.uniform(jax.random.key(0), (5, 4, 2)))
    down = warp(jnp.asarray(image), 1.0, 0.0, 0.0, 0.5, fill="reflect")  # half the size: every second pixel, from afar
    far = np.pad(image, ((10, 10), (10, 10), (0, 0)), mode="reflect")
    places = 2 + 2 * (np.arange(5) - 2) + 10, 1.5 + 2 * (np.arange(4) - 1.5) + 10
    low = places[1].astype(int)
    between = (far[:, low] + far[:, low + 1]) / 2
    np.testing.assert_allclose(down, between[places[0].astype(int)], rtol=1e-5)


def test_shift_takes_every_offset_equally_often():
    expected = [np.asarray(geometry.translate(SQUARE, y, x, most=1, fill=NINE)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    seen = draws(geometry.shift, SQUARE, 1800, most=1, fill=NINE)
    counts = [int((seen == each).all(axis=(1, 2, 3)).sum()) for each in expected]
    assert sum(counts) == 1800
    assert min(counts) > 150 and max(counts) < 250


def test_pad_fills_with_a_color_per_channel():
    color = np.asarray((0.1, 0.2, 0.3), np.float32).reshape(1, 1, 3)
    padded = np.asarray(geometry.pad(jnp.ones((1, 1, 3)), 1, color))
    expected = np.broadcast_to(color, (3, 3, 3)).copy()
    expected[1, 1] = 1
    np.testing.assert_array_equal(padded, expected)


def test_enlarge_is_bilinear_and_stays_inside_the_box():
    image = np.full((4, 4), 1e6)
    image[1, 1:3] = 0, 4
    assert rows(jax.jit(geometry.enlarge)(gray(image), 1, 1, 1, 2)) == [[0, 1, 3, 4]] * 4
    assert rows(jax.jit(geometry.enlarge)(gray(image.T), 1, 1, 2, 1)) == np.transpose([[0, 1, 3, 4]] * 4).tolist()


def test_enlarge_of_the_whole_image_is_the_image():
    image = jax.random.uniform(jax.random.key(0), (5, 7, 3))
    np.testing.assert_array_equal(jax.jit(geometry.enlarge)(image, 0, 0, 5, 7), image)


def test_resized_crop_keeps_area_and_aspect_in_range():
    images = jnp.concatenate([RAMP, jnp.swapaxes(RAMP, 0, 1)], axis=2)  # channels: column and row of a pixel
    seen = draws(geometry.resized_crop, images, 2000, area=(0.25, 0.5), aspect=(0.5, 2.0))
    low, high = seen.min(axis=(1, 2)), seen.max(axis=(1, 2))
    assert low.min() == 0 and high.max() == 15
    width, height = (high - low + 1).T
    # Sides are rounded to whole pixels, and none exceeds 16.
    assert (width * height).min() > 64 - 16 and (width * height).max() < 128 + 16
    ratio = np.log(width / height)
    assert abs(ratio).max() < np.log(2) + 0.2
    assert abs(ratio.mean()) < 0.03  # as often wide as high
    assert ratio.std() == pytest.approx(np.log(4) / np.sqrt(12), rel=0.1)  # uniform


def test_warp_by_a_quarter_turn_is_exact():
    for image in (SQUARE, RAMP):
        np.testing.assert_array_equal(warp(image, 0.0, 1.0, 0.0, 1.0, fill=BLACK), jnp.rot90(image))


def test_warp_without_change_is_the_identity():
    image = jax.random.uniform(jax.random.key(0), (5, 8, 3))
    np.testing.assert_array_equal(warp(image, 1.0, 0.0, 0.0, 1.0, fill=NINE), image)


def test_warp_shears_rows_about_the_centre():
    sheared = warp(SQUARE, 1.0, 0.0, 1.0, 1.0, fill=BLACK)
    assert rows(sheared) == [[2, 3, 0], [4, 5, 6], [0, 7, 8]]


def test_warp_scales_about_the_centre():
    twice = warp(gray([[0, 4, 8, 12]] * 4), 1.0, 0.0, 0.0, 2.0, fill=BLACK)
    assert rows(twice)[1] == [3, 5, 7, 9]  # columns 0.75, 1.25, 1.75, 2.25
    # Half the size: columns -1.5, 0.5, 2.5 and 4.5; the outer ones lie beyond the pixel of fill, or on it.
    half = warp(gray([[8, 8, 8, 8]] * 4), 1.0, 0.0, 0.0, 0.5, fill=NINE)
    assert rows(half) == [[9, 9, 9, 9], [9, 8, 8, 9], [9, 8, 8, 9], [9, 9, 9, 9]]
    assert rows(warp(gray([[8, 8, 8, 8]] * 4), 1.0, 0.0, 0.0, 0.5, fill=None)) == [[8] * 4] * 4


def test_a_shear_is_undone_before_the_turn():
    """Sheared first, then turned: the turn of the sheared square."""
    sheared = warp(SQUARE, 1.0, 0.0, 1.0, 1.0, fill=BLACK)
    np.testing.assert_array_equal(warp(SQUARE, 0.0, 1.0, 1.0, 1.0, fill=BLACK), jnp.rot90(sheared))


def test_affine_draws_within_its_ranges():
    numbers = {"rotate": 20.0, "shear": 0.0, "scale": (1.0, 1.25), "fill": None}
    seen = draws(geometry.affine, RAMP, 1000, **numbers)[..., 0]
    across, down = seen[:, 7, 8] - seen[:, 7, 7], seen[:, 8, 7] - seen[:, 7, 7]
    # Of a ramp along x, the slopes across and down are cos / scale and -sin / scale.
    angle, scale = np.degrees(np.arctan2(-down, across)), 1 / np.hypot(across, down)
    assert angle.min() < -19 and angle.max() > 19 and abs(angle).max() < 20.01
    assert abs(angle.mean()) < 1
    assert 1 - 1e-4 < scale.min() < 1.01 and 1.24 < scale.max() < 1.25 + 1e-4


def test_images_of_one_row_or_column():
    line = gray([[0, 4]])
    assert rows(jax.jit(geometry.enlarge)(line, 0, 0, 1, 2)) == [[0, 4]]
    assert rows(jax.jit(geometry.enlarge)(gray([[5]]), 0, 0, 1, 1)) == [[5]]
