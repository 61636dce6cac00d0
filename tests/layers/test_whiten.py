# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.layers import conv2d, dirac, whitening_kernel
from cnnjax.layers.whiten import patch_covariance

# Neighbouring pixels and channels depend on each other, as in photographs.
NOISE = jax.random.normal(jax.random.key(0), (64, 10, 10, 3))
IMAGES = NOISE + 0.7 * jnp.roll(NOISE, 1, axis=1) + 0.5 * jnp.roll(NOISE, 1, axis=3) + 0.3


def test_patch_covariance_equals_a_loop():
    images = np.asarray(IMAGES[:2, :4, :3])
    patches = [images[i, y : y + 2, x : x + 2].ravel() for i in range(2) for y in range(3) for x in range(2)]
    wanted = sum(np.outer(patch, patch) for patch in patches) / len(patches)
    np.testing.assert_allclose(patch_covariance(IMAGES[:2, :4, :3], 2), wanted, rtol=1e-5, atol=1e-6)


def test_responses_are_uncorrelated_and_of_mean_square_1():
    kernel = whitening_kernel(IMAGES, 2, epsilon=0.0)
    assert kernel.shape == (2, 2, 3, 24)
    responses = np.asarray(conv2d(IMAGES, kernel)).reshape(-1, 24)
    moments = responses.T @ responses / len(responses)
    np.testing.assert_allclose(moments[:12, :12], np.eye(12), atol=2e-3)
    np.testing.assert_allclose(responses[:, 12:], -responses[:, :12])
    plain = np.asarray(conv2d(IMAGES, jnp.eye(12).reshape(2, 2, 3, 12))).reshape(-1, 12)
    assert np.abs(plain.T @ plain / len(plain) - np.eye(12)).max() > 0.3  # the patches themselves are correlated


def test_epsilon_bounds_the_filters_and_the_strongest_direction_comes_first():
    flat = jnp.ones((1, 4, 4, 1)) * jax.random.normal(jax.random.key(1), (50, 1, 1, 1))
    kernel = np.asarray(whitening_kernel(flat, 2, epsilon=0.01)).reshape(4, 8)
    np.testing.assert_allclose(
        np.abs(kernel[:, 0]), kernel[0, 0] * np.sign(kernel[0, 0]), rtol=1e-4
    )  # all pixels alike
    norms = np.linalg.norm(kernel[:, :4], axis=0)
    assert norms[0] < 1
    np.testing.assert_allclose(norms[1:], 10, rtol=1e-2)  # 1 / sqrt(0 + epsilon)


def test_dirac_passes_channels_on():
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    for features in (2, 3, 5):
        out = conv2d(x, dirac((3, 3, 3, features)), padding=1)
        shared = min(3, features)
        np.testing.assert_array_equal(out[..., :shared], x[..., :shared])
        assert not out[..., shared:].any()
