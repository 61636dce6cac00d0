# SPDX-License-Identifier: Apache-2.0
"""Whether a network is right as often as it says."""

from typing import NamedTuple

import numpy as np

NUM_BINS = 15


class Calibration(NamedTuple):
    """Examples binned by the probability of the class they are given.

    Attributes:
      edges: [n+1], of the bins, equally wide from 0 to 1; a bin holds its upper edge.
      count: [n] int, examples.
      confidence: [n] mean probability; NaN without examples.
      accuracy: [n] fraction right; NaN without examples.
      ece: expected calibration error: the mean over examples of |accuracy - confidence| of their bin.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    ece: float


def calibrate(probability: np.ndarray, correct: np.ndarray, num_bins: int = NUM_BINS) -> Calibration:
    """Bins N examples.

    Args:
      probability: [N] in 0..1, of the class given.
      correct: [N] bool.
      num_bins: how many.

    Reference: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equations 2 to 5.
    """
    bins = np.clip(np.ceil(probability.astype(np.float64) * num_bins).astype(int) - 1, 0, num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bins, probability, num_bins) / count
        accuracy = np.bincount(bins, correct, num_bins) / count
    gaps = np.abs(accuracy - confidence)
    ece = float(np.nansum(gaps * count) / max(count.sum(), 1))
    return Calibration(np.linspace(0, 1, num_bins + 1), count, confidence, accuracy, ece)
