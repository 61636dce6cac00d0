# SPDX-License-Identifier: Apache-2.0
"""Whether a network is right as often as it says, and the one number that mends it."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

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


class Quality(NamedTuple):
    """How good the probabilities are, each the mean over N examples.

    Attributes:
      nll: negative logarithm of the probability given to the truth, in nats.
      brier: sum over classes of (probability - truth)^2, 0 to 2 (Brier 1950).
      ece: expected calibration error.
    """

    nll: float
    brier: float
    ece: float


def quality(logits: np.ndarray, label: np.ndarray, temperature: float = 1.0) -> Quality:
    """Of logits [N,K] divided by `temperature`, against labels [N]."""
    log_probability = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    probability = np.exp(log_probability)
    rows = np.arange(len(label))
    truth = probability[rows, label]
    brier = np.mean(np.square(probability).sum(axis=1) - 2 * truth + 1)
    ece = calibrate(probability.max(axis=1), probability.argmax(axis=1) == label).ece
    return Quality(float(-log_probability[rows, label].mean()), float(brier), ece)


def fit_temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """The number that logits [N,K] are divided by for the least nll; fit it on examples that nothing is measured on.

    The nll is convex in 1 / temperature, so there is one least; it is looked for in 0.01..100.

    Reference: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    wide, rows = logits.astype(np.float64), np.arange(len(label))

    def nll(log_temperature: float) -> float:
        return -float(log_softmax(wide / np.exp(log_temperature), axis=1)[rows, label].mean())

    found = minimize_scalar(nll, bounds=(np.log(0.01), np.log(100)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
