# SPDX-License-Identifier: Apache-2.0
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.see.canvas import color_mixing, frequency_canvas, pixel_canvas, total_variation

cut_canvas = partial(frequency_canvas, cut=True)


def keys(count):
    return jax.random.split(jax.random.key(0), count)


def shown(canvas):
    """`pixel` in one program, not in one for each of its operations."""
    return jax.jit(canvas.pixel)


@pytest.mark.parametrize("make", [pixel_canvas, frequency_canvas, cut_canvas])
@pytest.mark.parametrize("shape", [(8, 8, 3), (5, 7, 1)])
def test_pixels_are_of_the_shape_asked_for_and_start_about_the_colour(make, shape):
    canvas = make(shape, np.full(shape[2], 0.25))
    pixel = shown(canvas)(canvas.init(keys(3), 1))
    assert pixel.shape == (3, *shape)
    assert abs(float(pixel.mean()) - 0.25) < 0.05 and float(pixel.std()) > 0.001


@pytest.mark.parametrize("make", [pixel_canvas, frequency_canvas, cut_canvas])
def test_whatever_the_numbers_pixels_stay_in_0_to_1(make):
    canvas = make((6, 6, 3))
    numbers = canvas.project(canvas.init(keys(2), 1) + 1e3 * jax.random.normal(jax.random.key(1), ()))
    pixel = np.asarray(shown(canvas)(numbers))
    assert pixel.min() >= 0 and pixel.max() <= 1


def test_a_pixel_that_is_cut_off_can_return():
    canvas = cut_canvas((4, 4, 1))
    white = jnp.zeros_like(canvas.init(keys(1), 1)).at[0, 0, 0, 0, 0].set(20)
    np.testing.assert_array_equal(canvas.pixel(white), 1)
    slope = jax.jit(jax.grad(lambda numbers: canvas.pixel(numbers).mean()))(white)[0, 0, 0, 0, 0]
    assert float(slope) == pytest.approx(4 / (1 / 4) / 4 / 16 / 4)  # gain over pixels, over 4


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("frequency", [1, 2, 4])
def test_a_coefficient_counts_as_much_as_one_over_its_frequency(frequency, cut):
    canvas = frequency_canvas((16, 16, 1), cut=cut)
    numbers = jnp.zeros_like(canvas.init(keys(1), 1)).at[0, 0, 0, frequency, 0].set(1e-3)
    wave = np.asarray(shown(canvas)(numbers))[0, 0, :, 0] - 0.5
    # The pair of coefficients +-f gives 2 g / (H W) cos, g = 16 / (f / 16) / 4, and the logistic's slope at 0 is 1/4.
    amplitude = 1e-3 * 2 * (16 / (frequency / 16) / 4) / 256 / 4
    np.testing.assert_allclose(wave, amplitude * np.cos(2 * np.pi * frequency * np.arange(16) / 16), atol=1e-7)


def test_mixing_gives_colours_the_covariance_of_the_images():
    shared = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1))
    image = np.concatenate([shared, shared, np.full_like(shared, 7)], axis=-1).astype(np.uint8)
    root = color_mixing(image)
    covariance = root @ root.T
    np.testing.assert_allclose(covariance, [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 0]], atol=1e-6)
    canvas = frequency_canvas((4, 4, 3), 0.5, root)
    pixel = np.asarray(shown(canvas)(canvas.init(keys(1), 1)))
    np.testing.assert_allclose(pixel[..., 0], pixel[..., 1], atol=1e-6)
    np.testing.assert_allclose(pixel[..., 2], 0.5, atol=1e-6)


def test_mixing_of_gray_or_of_one_colour_is_harmless():
    np.testing.assert_allclose(color_mixing(np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)), [[1.0]])
    np.testing.assert_allclose(color_mixing(np.full((2, 4, 4, 3), 9, np.uint8)), np.eye(3))


def test_total_variation_by_hand():
    image = np.zeros((3, 3, 3, 1), np.float32)
    image[0, 1, 1] = 1  # steps of (1, 0) above, (0, 1) at the left, and (-1, -1) at the pixel itself
    image[1, 2, 2] = 1  # at the corner: seen from above and from the left
    expected = np.array([1 + 1 + np.sqrt(2), 2, 0]) / 9
    np.testing.assert_allclose(total_variation(jnp.asarray(image)), expected, atol=2e-4)
