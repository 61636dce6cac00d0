# SPDX-License-Identifier: Apache-2.0
"""Structural similarity of two pictures: brightness, contrast and structure, compared in a window about each pixel.

Reference: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE Transactions on Image Processing 13(4), 2004, equation 13 and section III.C.
"""

import jax.numpy as jnp
import numpy as np

from cnnjax.types import Array

WINDOW, SIGMA = 11, 1.5  # pixels: the paper's window, and the standard deviation of its Gaussian weights
K1, K2 = 0.01, 0.03


def ssim(picture: Array, other: Array) -> Array:
    """The mean SSIM of each pair of pictures [B,H,W,C] in 0..1, over channels and windows: [B], 1 for equal ones.

    As the paper has it: Gaussian weights of an 11x11 window that lies within the picture, variances divided by the
    sum of the weights. It is what scikit-image computes with `gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1`. A picture of fewer than 11 pixels along a side gets the largest odd
    window that fits there.
    """
    height, width = picture.shape[1:3]
    smallest = min(height, width)
    window = min(WINDOW, smallest - 1 + smallest % 2)
    rows, columns = (jnp.asarray(_windows(side, window), picture.dtype) for side in (height, width))

    def blurred(x: Array) -> Array:
        # A product of matrices for each axis: on a CPU far faster than a convolution of single channels.
        return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns)

    mean, other_mean = blurred(picture), blurred(other)
    variance = blurred(picture * picture) - mean * mean
    other_variance = blurred(other * other) - other_mean * other_mean
    covariance = blurred(picture * other) - mean * other_mean
    c1, c2 = K1**2, K2**2
    above = (2 * mean * other_mean + c1) * (2 * covariance + c2)
    below = (mean * mean + other_mean * other_mean + c1) * (variance + other_variance + c2)
    return jnp.mean(above / below, axis=(1, 2, 3))


def _windows(side: int, window: int) -> np.ndarray:
    """Rows of Gaussian weights, one for each place of the window along an axis: [side - window + 1, side]."""
    distance = np.arange(window) - window // 2
    weights = np.exp(-(distance**2) / (2 * SIGMA**2))
    places = side - window + 1
    banded = np.zeros((places, side))
    for place in range(places):
        banded[place, place : place + window] = weights / weights.sum()
    return banded
