# SPDX-License-Identifier: Apache-2.0
"""Whitening filters: the eigenvectors of training patches, so that a first layer starts with decorrelated outputs.

Reference: Page 2019, "How to train your ResNet", part 8; Jordan 2024 (arXiv:2404.00498), section 3.2.
"""

import jax.numpy as jnp

from cnnjax.layers.im2col import im2col
from cnnjax.types import Array


def patch_covariance(images: Array, size: int) -> Array:
    """Mean of p p^T over all patches p, size x size pixels, of the images; the mean patch is not taken off.

    Args:
      images: [N,H,W,C] float32, normalised as the network's input is.
      size: side of a patch in pixels.

    Returns:
      [size*size*C, size*size*C] float32; a patch's entries in the order of a kernel's, (row, column, channel).
    """
    patches = im2col(images, size).reshape(-1, size * size * images.shape[-1])
    # Millions of terms: float32 products whatever the backend's habit.
    return jnp.matmul(patches.T, patches, precision="highest") / patches.shape[0]


def whitening_kernel(images: Array, size: int, *, epsilon: float = 5e-4) -> Array:
    """Filters whose responses to patches of `images` are uncorrelated and of mean square 1, and their negatives.

    A filter is an eigenvector of the patches' covariance over sqrt(eigenvalue + epsilon), the largest eigenvalue
    first; the second half of the filters is the first with the sign turned, for an activation that lets one sign pass.

    Args:
      images: [N,H,W,C] float32, normalised as the network's input is.
      size: side of the filters in pixels.
      epsilon: keeps directions in which patches hardly vary from being blown up.

    Returns:
      [size,size,C,2*size*size*C] float32.
    """
    values, vectors = jnp.linalg.eigh(patch_covariance(images, size))  # ascending, eigenvectors as columns
    filters = (vectors / jnp.sqrt(values + epsilon).reshape(1, -1))[:, ::-1]
    both = jnp.concatenate([filters, -filters], axis=1)
    return both.reshape(size, size, images.shape[-1], both.shape[1])


def dirac(shape: tuple[int, int, int, int]) -> Array:
    """The kernel [h,w,C,F] that hands channel i on as feature i, for i below both C and F; the others give 0."""
    height, width, channels, features = shape
    return jnp.zeros(shape).at[height // 2, width // 2].set(jnp.eye(channels, features))
