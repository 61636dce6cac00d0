# SPDX-License-Identifier: Apache-2.0
"""How sure a number is: bootstrap intervals over the examples, and McNemar's test between two networks.

An interval tells how the number would move with another test set of the same size. It says nothing of another seed
of training: for that, train several.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import binom, binomtest

LEVEL = 0.95
_RESAMPLES = 2000
_CHUNK = 4_000_000  # draws in memory at once


class Interval(NamedTuple):
    """Holds the true mean in 95 of 100 test sets."""

    low: float
    high: float


class McNemar(NamedTuple):
    """Two networks on the same examples.

    Attributes:
      only_first: examples that the first alone gets right.
      only_second: examples that the second alone gets right.
      p_value: the chance of a difference as large or larger were both equally good; exact.
      difference: accuracy of the second less that of the first.
      interval: of the difference, by bootstrap over examples.
    """

    only_first: int
    only_second: int
    p_value: float
    difference: float
    interval: Interval


def mean_interval(values: np.ndarray, *, seed: int = 0) -> Interval:
    """The bootstrap percentile interval of the mean of N numbers; (nan, nan) of none.

    Of zeros and ones it is computed without drawing: a resampled count is binomial. Where all are equal every
    resample is, too, and the bootstrap would claim certainty; the exact binomial bound (Clopper, Pearson 1934) stands
    in for it. Of other numbers the mean is taken over 2,000 resamples, drawn by `seed`.

    Reference: Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    values = np.asarray(values, np.float64)
    count = len(values)
    if not count:
        return Interval(float("nan"), float("nan"))
    tail = (1 - LEVEL) / 2
    if np.isin(values, (0, 1)).all():
        share = float(values.mean())
        if share in (0, 1):
            bound = tail ** (1 / count)
            return Interval(bound, 1.0) if share else Interval(0.0, 1 - bound)
        low, high = binom.ppf((tail, 1 - tail), count, share) / count
        return Interval(float(low), float(high))
    rng, means = np.random.default_rng(seed), []
    step = max(1, _CHUNK // count)
    for start in range(0, _RESAMPLES, step):
        rows = rng.integers(0, count, (min(step, _RESAMPLES - start), count))
        means.append(values[rows].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return Interval(float(low), float(high))


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Compares two networks by the examples that one of them alone gets right.

    Args:
      first: [N] bool, whether the first network is right.
      second: [N] bool, of the second, on the same examples.

    Reference: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947, as an
    exact binomial test; Dietterich, "Approximate statistical tests for comparing supervised classification learning
    algorithms", 1998.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    either = only_first + only_second
    p_value = binomtest(only_second, either, 0.5).pvalue if either else 1.0
    gain = second.astype(np.float64) - first
    return McNemar(only_first, only_second, float(p_value), float(gain.mean()), mean_interval(gain))
