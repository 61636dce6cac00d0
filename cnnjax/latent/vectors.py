# SPDX-License-Identifier: Apache-2.0
"""Directions in the latent space: from one class to another, and controls that mean nothing.

Reference: Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", 2016 (arXiv:1512.09300),
section 5.1: the vector of an attribute is the mean latent of the pictures that have it minus that of the others.
"""

import numpy as np

from cnnjax.errors import UsageError, unknown

DIRECTIONS = ("mean", "logistic")


def attribute_vector(latent: np.ndarray, has: np.ndarray, direction: str = "mean") -> np.ndarray:
    """The step in latent space that leads from one class to the other, float64 [D].

    Args:
      latent: [N,D].
      has: bool [N], whether a picture has the attribute; some must, and some must not.
      direction: "mean", the mean latent of those that have it minus that of the others. "logistic", the normal of the
        plane that logistic regression (scikit-learn, on latents divided by their standard deviations) puts between
        them, as long as the difference of the means is along it: it leaves alone what only goes with the attribute.

    Raises:
      UsageError: no such direction.
    """
    if direction not in DIRECTIONS:
        raise UsageError(unknown("--direction", direction, DIRECTIONS))
    rows = np.asarray(latent, np.float64)
    difference = rows[has].mean(axis=0) - rows[~has].mean(axis=0)
    if direction == "mean":
        return difference
    from sklearn.linear_model import LogisticRegression

    spread = rows.std(axis=0)
    spread[spread == 0] = 1  # a unit that is always the same says nothing
    normal = LogisticRegression(max_iter=1000).fit((rows - rows.mean(axis=0)) / spread, has).coef_[0] / spread
    normal /= np.linalg.norm(normal)
    return normal * (normal @ difference)


def random_vectors(size: int, length: float, count: int, seed: int) -> np.ndarray:
    """Vectors [count,size] float64 of one length, every direction as likely."""
    drawn = np.random.default_rng(seed).standard_normal((count, size))
    return length * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def along(latent: np.ndarray, vector: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """Latents [N,D] with each of S strengths times `vector` [D] added: [N,S,D]."""
    return latent[:, None, :] + strengths[None, :, None] * vector[None, None, :]


def between(first: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
    """`count` latents [count,D] from `first` [D] to `last` [D] in equal steps, both among them."""
    share = np.linspace(0, 1, count)[:, None]
    return (1 - share) * first[None] + share * last[None]


def nearest(query: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """For each query [Q,D] the places [Q,count] of the nearest rows [N,D] by Euclidean distance, nearest first."""
    query, rows = np.asarray(query, np.float64), np.asarray(rows, np.float64)
    distance = np.sum(rows**2, axis=1)[None] - 2 * query @ rows.T  # but for what is the same for all rows
    return np.argsort(distance, axis=1, kind="stable")[:, :count]
