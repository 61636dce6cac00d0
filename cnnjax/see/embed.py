# SPDX-License-Identifier: Apache-2.0
"""Features of many dimensions in two, and how much of what was near stays near.

PCA: the plane that keeps most of the variance (Pearson 1901). t-SNE: neighbours drawn near each other, distances
between groups without meaning (van der Maaten and Hinton 2008).
"""

from typing import NamedTuple

import numpy as np


class Pca(NamedTuple):
    """A projection onto the directions of largest variance.

    Attributes:
      points: [N,d] float64, the centred rows along each direction.
      directions: [d,D], of length 1, orthogonal; the largest entry of each is positive.
      explained: [d], each direction's share of the whole variance, 0..1, falling; zeros where all rows are equal.
    """

    points: np.ndarray
    directions: np.ndarray
    explained: np.ndarray


def pca(features: np.ndarray, dims: int = 2) -> Pca:
    """The first `dims` principal components of features [N,D].

    Raises:
      ValueError: there are fewer rows or columns than `dims`.
    """
    if dims > min(features.shape):
        raise ValueError(f"features {features.shape} have fewer than {dims} principal components")
    rows = np.asarray(features, np.float64)
    rows = rows - rows.mean(axis=0, keepdims=True)
    _, length, directions = np.linalg.svd(rows, full_matrices=False)
    directions = directions[:dims]
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(np.take_along_axis(directions, largest[:, None], axis=1))
    total = float(np.sum(length**2))
    explained = length[:dims] ** 2 / total if total > 0 else np.zeros(dims)
    return Pca(rows @ directions.T, directions, explained)


def tsne(features: np.ndarray, seed: int, perplexity: float = 30.0) -> np.ndarray:
    """t-SNE of features [N,D] into [N,2] float64, by scikit-learn, from the first 50 principal components.

    Args:
      features: N of 4 and more.
      seed: of the method's own randomness.
      perplexity: how many neighbours a point is given to keep near, about; a third of the points at most.
    """
    from sklearn.manifold import TSNE

    # As the authors did: noise of many small directions is left out, and distances are computed faster.
    rows = pca(features, min(50, *features.shape)).points
    method = TSNE(perplexity=min(perplexity, (len(rows) - 1) / 3), init="pca", learning_rate="auto", random_state=seed)
    return np.asarray(method.fit_transform(rows.astype(np.float32)), np.float64)


def neighbour_agreement(points: np.ndarray, label: np.ndarray, k: int = 10) -> float:
    """The mean share of a point's k nearest others that have its label, 0..1; of equal distances the first count.

    Args:
      points: [N,D].
      label: [N].
      k: neighbours; N - 1 at most.
    """
    rows = np.asarray(points, np.float64)
    squares = np.sum(rows**2, axis=1)
    shares, k = [], min(k, len(rows) - 1)
    for start in range(0, len(rows), 512):  # in blocks: never all pairs at once
        block = slice(start, start + 512)
        distance = squares[block, None] - 2 * rows[block] @ rows.T + squares[None]
        own = np.arange(len(distance))
        distance[own, start + own] = np.inf
        nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]
        shares.append(np.mean(label[nearest] == label[block, None], axis=1))
    return float(np.mean(np.concatenate(shares)))


def chance_agreement(label: np.ndarray) -> float:
    """What `neighbour_agreement` is on average if neighbours have nothing to do with labels [N]."""
    counts = np.unique(label, return_counts=True)[1].astype(np.float64)
    return float(np.sum(counts * (counts - 1)) / (len(label) * (len(label) - 1)))
