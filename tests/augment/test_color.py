# SPDX-License-Identifier: Apache-2.0
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.augment import arithmetic, color

pytestmark = pytest.mark.optimized

IMAGE = jax.random.uniform(jax.random.key(1), (4, 5, 3))


def draws(augmentation: Any, image: jax.Array, **numbers: Any) -> np.ndarray:
    """[1000,H,W,C]: the image as 1000 keys change it."""
    keys = jax.random.split(jax.random.key(0), 1000)
    changed = jax.jit(jax.vmap(functools.partial(augmentation, **numbers), (0, None)))(keys, image)
    assert changed.dtype == jnp.float32
    return np.asarray(changed)


def spans(values: np.ndarray, low: float, high: float) -> bool:
    """Whether values lie in a range and fill it."""
    slack = 0.02 * (high - low)
    return bool(low - 1e-5 < values.min() < low + slack and high - slack < values.max() < high + 1e-5)


def test_brightness_adds_one_number_and_does_not_clip():
    added = draws(color.brightness, IMAGE, amount=0.3) - np.asarray(IMAGE)
    assert np.ptp(added, axis=(1, 2, 3)).max() < 1e-6
    assert spans(added, -0.3, 0.3)


def test_contrast_stretches_about_the_mean():
    image = jnp.asarray((0.25, 0.75, 0.25, 0.75)).reshape(2, 2, 1)
    changed = draws(color.contrast, image, amount=0.4)
    np.testing.assert_allclose(changed.mean(axis=(1, 2, 3)), 0.5, atol=1e-6)
    half = changed.max(axis=(1, 2, 3)) - 0.5
    np.testing.assert_allclose(0.5 - changed.min(axis=(1, 2, 3)), half, atol=1e-6)
    assert spans(half / 0.25, 0.6, 1.4)


def test_mean_is_that_of_the_image():
    for shape, shift in (((1, 1, 1), 0.0), ((4, 5, 3), -1.9), ((64, 64, 3), 0.9), ((100, 90, 1), -1.0)):
        image = jax.random.uniform(jax.random.key(0), shape) + shift
        assert float(jax.jit(arithmetic.mean)(image)) == pytest.approx(np.asarray(image, np.float64).mean(), abs=2e-6)


def test_channel_gain_multiplies_each_channel():
    gains = draws(color.channel_gain, IMAGE, amount=0.5) / np.asarray(IMAGE)
    assert np.ptp(gains, axis=(1, 2)).max() < 1e-5
    gains = gains.mean(axis=(1, 2))
    assert spans(gains, 0.5, 1.5)
    assert abs(np.corrcoef(gains.T) - np.eye(3)).max() < 0.1  # independent of each other


def test_saturation_keeps_the_gray():
    luma = np.asarray((306, 601, 117)) / 1024
    np.testing.assert_allclose(luma, (0.299, 0.587, 0.114), atol=5e-4)
    image = jnp.asarray((1.0, 0.0, 0.0)).reshape(1, 1, 3)  # red: gray 306 / 1024
    changed = draws(color.saturation, image, amount=0.5)
    np.testing.assert_allclose(changed @ luma, 306 / 1024, atol=1e-6)
    np.testing.assert_array_equal(changed[..., 1], changed[..., 2])
    assert spans(changed[..., 0] - changed[..., 1], 0.5, 1.5)
    gray = jnp.full((2, 2, 3), 0.5)
    np.testing.assert_array_equal(draws(color.saturation, gray, amount=0.5), np.full((1000, 2, 2, 3), 0.5))


def test_pca_color_is_along_the_axes_of_imagenet():
    first = color.pca_color(jnp.asarray((0.1, 0.0, 0.0)))
    np.testing.assert_allclose(first, (-0.012343, -0.012632, -0.012693), atol=1e-6)  # 0.1 * 0.2175 * gray
    third = color.pca_color(jnp.asarray((0.0, 0.0, 1.0)))
    np.testing.assert_allclose(third, (0.001804, -0.003663, 0.001891), atol=1e-6)
    np.testing.assert_allclose(color.IMAGENET_EIGENVECTORS.T @ color.IMAGENET_EIGENVECTORS, np.eye(3), atol=2e-4)


def test_pca_noise_is_one_color_with_the_spread_of_the_eigenvalues():
    added = draws(color.pca_noise, IMAGE, std=0.1) - np.asarray(IMAGE)
    assert np.ptp(added, axis=(1, 2)).max() < 1e-6
    along = added.mean(axis=(1, 2)) @ color.IMAGENET_EIGENVECTORS
    np.testing.assert_allclose(along.std(axis=0), 0.1 * color.IMAGENET_EIGENVALUES, rtol=0.07)
    assert abs(along.mean(axis=0)).max() < 0.002
    assert abs(np.corrcoef(along.T) - np.eye(3)).max() < 0.1
