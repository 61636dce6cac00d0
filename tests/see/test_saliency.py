# SPDX-License-Identifier: Apache-2.0
"""Saliency against known answers: linear networks, jax.grad, and sums that must add up."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.see.saliency import completeness, integrated_gradients, magnitude, make_gradient, signed, smooth_grad
from cnnjax.types import Model

WEIGHT = jax.random.normal(jax.random.key(0), (12, 3))
IMAGE = jax.random.normal(jax.random.key(1), (2, 2, 3, 2))
TARGET = np.array([2, 0])


def plain(function) -> Model:
    """`function(params, rows)` of the flattened images as a model."""

    def apply(params, model_state, image, *, train, key=None):
        return {"logits": function(params, image.reshape(len(image), -1))}, model_state

    return Model(lambda key, image: (WEIGHT, {}), apply)


LINEAR = make_gradient(plain(lambda weight, rows: rows @ weight), WEIGHT, {})
CURVED = make_gradient(plain(lambda weight, rows: jnp.sin(rows @ weight) ** 2), WEIGHT, {})
SQUARE = make_gradient(plain(lambda weight, rows: rows**2 @ weight), WEIGHT, {})
OWN_WEIGHTS = np.asarray(WEIGHT.T[TARGET]).reshape(IMAGE.shape)


def test_the_gradient_of_a_linear_network_is_its_weights():
    logits, gradient = LINEAR(IMAGE, TARGET)
    np.testing.assert_allclose(gradient, OWN_WEIGHTS, rtol=1e-6)
    np.testing.assert_allclose(logits, (OWN_WEIGHTS * IMAGE).sum(axis=(1, 2, 3)), rtol=1e-5)


def test_the_gradient_is_that_of_jax_grad():
    def logit(image):
        return (jnp.sin(image.reshape(-1) @ WEIGHT) ** 2)[2]

    np.testing.assert_allclose(CURVED(IMAGE, TARGET)[1][0], jax.grad(logit)(IMAGE[0]), rtol=1e-4, atol=1e-6)


def test_smooth_grad_of_a_linear_network_is_its_weights_and_noise_averages_out():
    key = jax.random.key(2)
    np.testing.assert_allclose(smooth_grad(LINEAR, IMAGE, TARGET, key, num_samples=3), OWN_WEIGHTS, rtol=1e-5)
    # Of x^2 the mean gradient is that at the image, whatever the noise; one sample is off.
    exact = SQUARE(IMAGE, TARGET)[1]
    one, many = (smooth_grad(SQUARE, IMAGE, TARGET, key, num_samples=n, noise=0.2) for n in (1, 256))
    assert 0 < jnp.abs(many - exact).max() < 0.3 * jnp.abs(one - exact).max()


def test_the_noise_is_a_fraction_of_the_images_range():
    key = jax.random.key(2)
    error = [
        smooth_grad(SQUARE, scale * IMAGE, TARGET, key, num_samples=1) - SQUARE(scale * IMAGE, TARGET)[1]
        for scale in (1, 10)
    ]
    np.testing.assert_allclose(10 * error[0], error[1], rtol=1e-3, atol=1e-4)


def test_integrated_gradients_of_a_linear_network_are_exact_in_one_step():
    baseline = jnp.full((1, 1, 1, 2), 0.5)
    found, check = integrated_gradients(LINEAR, IMAGE, TARGET, baseline, num_steps=1)
    np.testing.assert_allclose(found, OWN_WEIGHTS * (IMAGE - 0.5), rtol=1e-5, atol=1e-6)
    assert check.relative_error.max() < 1e-5


def test_integrated_gradients_of_a_square_are_the_difference_of_squares():
    found, _ = integrated_gradients(SQUARE, IMAGE, TARGET, jnp.float32(0.5), num_steps=4)
    np.testing.assert_allclose(found, OWN_WEIGHTS * (IMAGE**2 - 0.25), rtol=1e-4, atol=1e-5)


def test_integrated_gradients_add_up_with_enough_steps_and_not_with_one():
    few, many = (
        integrated_gradients(CURVED, IMAGE, TARGET, jnp.float32(0), num_steps=n)[1].relative_error for n in (1, 256)
    )
    assert many.max() < 0.01 < 0.05 < few.max()


def test_the_check_counts_what_is_missing():
    check = completeness(np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([4.0, 0.0]))
    np.testing.assert_allclose(check.total, [3, 0])
    np.testing.assert_allclose(check.relative_error, [0.25, 0])


def test_maps_of_the_channels():
    pixel = jnp.array([-3.0, 1.0]).reshape(1, 1, 1, 2)
    assert magnitude(pixel).item() == 3
    assert signed(pixel).item() == -2
