# SPDX-License-Identifier: Apache-2.0
"""Corruptions: the published strengths, what each does to the pixels, and that rows stand for themselves."""

import numpy as np
import pytest
from scipy.signal import convolve2d

from cnnjax.errors import UsageError
from cnnjax.protocols.corruptions import CORRUPTIONS, corrupt

FLAT = np.full((2, 64, 64, 3), 128, np.uint8)
RANDOM = np.random.default_rng(0).integers(0, 256, (3, 12, 10, 3)).astype(np.uint8)


def test_the_noise_has_the_published_deviation():
    for strength, std in enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1):
        noise = corrupt(FLAT, "gaussian_noise", strength) / 255.0 - 128 / 255
        assert noise.std() == pytest.approx(std, rel=0.03)
    large = corrupt(np.full((1, 65, 65, 1), 128, np.uint8), "gaussian_noise", 1)  # ImageNet-C's strength
    assert (large / 255.0).std() == pytest.approx(0.08, rel=0.05)
    shot = corrupt(FLAT, "shot_noise", 5) / 255.0
    assert shot.std() == pytest.approx((0.502 / 50) ** 0.5, rel=0.05)
    assert np.mean(corrupt(FLAT, "impulse_noise", 5) != 128) == pytest.approx(0.07, rel=0.05)


def test_contrast_and_brightness_by_hand():
    picture = RANDOM / 255.0
    mean = picture.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_array_equal(corrupt(RANDOM, "contrast", 3), ((picture - mean) * 0.4 + mean) * 255 // 1)
    np.testing.assert_array_equal(corrupt(RANDOM, "brightness", 2), np.clip(picture + 0.1, 0, 1) * 255 // 1)


def test_the_blur_is_a_convolution_with_a_gaussian():
    x = np.arange(-4, 5)
    kernel = np.exp(-(x**2) / 2)
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    padded = np.pad(RANDOM[0, :, :, 1] / 255.0, 4, mode="edge")
    expected = convolve2d(padded, kernel, mode="valid") * 255
    np.testing.assert_allclose(corrupt(RANDOM, "gaussian_blur", 5)[0, :, :, 1], np.floor(expected), atol=1)


@pytest.mark.parametrize("kind", list(CORRUPTIONS))
def test_a_row_stands_for_itself_and_strength_tells(kind):
    whole = corrupt(RANDOM, kind, 5)
    assert whole.shape == RANDOM.shape and whole.dtype == np.uint8
    np.testing.assert_array_equal(corrupt(RANDOM[:2], kind, 5), whole[:2])
    np.testing.assert_array_equal(corrupt(RANDOM, kind, 5), whole)
    smooth = np.broadcast_to(np.linspace(60, 190, 32).astype(np.uint8).reshape(1, 1, 32, 1), (2, 32, 32, 1))
    change = [np.abs(corrupt(smooth, kind, s).astype(int) - smooth).mean() for s in (1, 5)]
    assert corrupt(smooth, kind, 1).shape == smooth.shape and change[1] > change[0]


def test_jpeg_needs_gray_or_colour():
    with pytest.raises(UsageError, match="2 channels are no JPEG"):
        corrupt(np.zeros((1, 8, 8, 2), np.uint8), "jpeg", 1)
