# SPDX-License-Identifier: Apache-2.0
"""Corrupted test pictures: noise, blur, loss of contrast, JPEG and the like, each at five strengths.

Reference: Hendrycks, Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations",
2019, arXiv:1903.12261. The strengths are those of its code: for ImageNet-C, and for pictures with a short side of at
most 64 pixels the milder ones of CIFAR-10-C. Deviation: `brightness` adds to the pixels, there to the value of HSV.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from cnnjax.errors import UsageError

STRENGTHS = 5
SMALL = 64
"""Short side in pixels up to which pictures are small."""
USUAL = ("gaussian_noise", "gaussian_blur", "contrast", "jpeg")

_Function = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


class Corruption(NamedTuple):
    """One kind.

    Attributes:
      apply: `apply(picture, strength, rng)`: float64 [H,W,C] in 0..1 to the same; it may leave the range.
      small: its numbers at strengths 1 to 5 for small pictures.
      large: and for others.
    """

    apply: _Function
    small: tuple[float, ...]
    large: tuple[float, ...]


def corrupt(image: np.ndarray, kind: str, strength: int, *, seed: int = 0) -> np.ndarray:
    """uint8 [N,H,W,C] corrupted, a function of (seed, kind, strength, row) alone.

    Args:
      image: uint8 [N,H,W,C].
      kind: of CORRUPTIONS.
      strength: 1 to 5.
      seed: of the noise.

    Raises:
      UsageError: JPEG of pictures that are neither gray nor colour.
    """
    corruption = CORRUPTIONS[kind]
    numbers = corruption.small if min(image.shape[1:3]) <= SMALL else corruption.large
    number, index = numbers[strength - 1], list(CORRUPTIONS).index(kind)
    result = np.empty_like(image)
    for row, picture in enumerate(image):
        rng = np.random.default_rng([seed, index, strength, row])
        changed = corruption.apply(picture / 255.0, number, rng)
        result[row] = (np.clip(changed, 0, 1) * 255).astype(np.uint8)  # cut, not rounded, as in the paper's code
    return result


def _gaussian_noise(picture: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    return picture + rng.normal(scale=std, size=picture.shape)


def _shot_noise(picture: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(picture * photons) / photons


def _impulse_noise(picture: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    hit, salt = rng.random(picture.shape) < share, rng.random(picture.shape) < 0.5
    return np.where(hit, salt, picture)


def _gaussian_blur(picture: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    del rng
    return gaussian_filter(picture, (sigma, sigma, 0), mode="nearest")


def _contrast(picture: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    del rng
    mean = picture.mean(axis=(0, 1), keepdims=True)
    return (picture - mean) * factor + mean


def _brightness(picture: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    del rng
    return picture + amount


def _pixelate(picture: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    del rng
    height, width = picture.shape[:2]
    small = (max(1, int(width * factor)), max(1, int(height * factor)))
    planes = []
    for channel in range(picture.shape[2]):
        plane = Image.fromarray(picture[:, :, channel].astype(np.float32))
        planes.append(plane.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX))
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def _jpeg(picture: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    del rng
    channels = picture.shape[2]
    if channels not in (1, 3):
        raise UsageError(f"pictures of {channels} channels are no JPEG; leave jpeg out of --corruptions")
    pixels = (picture * 255).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file)).reshape(picture.shape) / 255.0


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption(_shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": Corruption(_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "gaussian_blur": Corruption(_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0), (1, 2, 3, 4, 6)),
    "contrast": Corruption(_contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": Corruption(_brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "pixelate": Corruption(_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg": Corruption(_jpeg, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
