# SPDX-License-Identifier: Apache-2.0
"""How well pictures survive being squeezed into D numbers: the autoencoder beside PCA, the best linear one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ssim import ssim

_BATCH = 200
_MOST_FITTED = 20_000  # pictures that PCA is fitted to
_LEAST_MSE = 1e-10


class Quality(NamedTuple):
    """Means over pictures: psnr in dB, of each picture by itself, and ssim."""

    psnr: float
    ssim: float


def quality(image: np.ndarray, recon: np.ndarray) -> Quality:
    """Of reconstructions float [N,H,W,C] in 0..1 against pictures uint8 [N,H,W,C]."""
    each = psnr_of(image / np.float32(255), recon)
    compiled, found = jax.jit(ssim), []
    for start in range(0, len(image), _BATCH):
        pair = (image[start : start + _BATCH] / np.float32(255), recon[start : start + _BATCH])
        found.append(np.asarray(compiled(*(jnp.asarray(part, jnp.float32) for part in pair))))
    return Quality(float(each.mean()), float(np.concatenate(found).mean()))


def psnr_of(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """10 log10(1 / mse) in dB of each pair of pictures [N,...] in 0..1: [N], 100 at most."""
    mse = np.mean(np.square(picture.astype(np.float64) - other), axis=tuple(range(1, picture.ndim)))
    return -10 * np.log10(np.maximum(mse, _LEAST_MSE))


def pca_reconstruction(train: np.ndarray, image: np.ndarray, components: int, seed: int) -> np.ndarray | None:
    """Pictures uint8 [N,H,W,C] as the first principal components of the training pictures give them back.

    By scikit-learn, fitted to the training split, or to 20,000 pictures of it drawn at random. None where there are
    fewer pixels or training pictures than components.

    Returns:
      float32 [N,H,W,C], clipped to 0..1.
    """
    from sklearn.decomposition import PCA

    if len(train) > _MOST_FITTED:
        train = train[np.sort(np.random.default_rng(seed).choice(len(train), _MOST_FITTED, replace=False))]
    rows = train.reshape(len(train), -1) / np.float32(255)
    if components > min(rows.shape):
        return None
    fitted = PCA(components, random_state=seed).fit(rows)
    flat = fitted.inverse_transform(fitted.transform(image.reshape(len(image), -1) / np.float32(255)))
    return np.clip(flat, 0, 1).reshape(image.shape).astype(np.float32)
