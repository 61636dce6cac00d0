# SPDX-License-Identifier: Apache-2.0
"""Intervals and McNemar's test against scipy, a slow bootstrap, and published numbers."""

import numpy as np
import pytest
from scipy.stats import chi2

from cnnjax.protocols.intervals import mcnemar, mean_interval


def slow_bootstrap(values, resamples=4000):
    rng = np.random.default_rng(7)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    return np.quantile(means, (0.025, 0.975))


def test_a_share_against_resampling():
    values = np.repeat([1.0, 0.0], [180, 20])
    interval = mean_interval(values)
    np.testing.assert_allclose(interval, slow_bootstrap(values), atol=0.006)
    assert interval.low == pytest.approx(0.855, abs=1e-9)  # binom.ppf(0.025, 200, 0.9) = 171
    assert mean_interval(values.astype(bool)) == interval


def test_other_numbers_against_resampling():
    values = np.random.default_rng(0).exponential(size=300)
    interval = mean_interval(values)
    np.testing.assert_allclose(interval, slow_bootstrap(values), atol=0.02)
    assert mean_interval(values) == interval  # drawn by the seed
    assert mean_interval(values, seed=1) != interval


def test_where_all_are_right_the_interval_is_not_a_point():
    high = mean_interval(np.ones(20))
    assert high.high == 1 and high.low == pytest.approx(0.025 ** (1 / 20))
    low = mean_interval(np.zeros(20))
    assert low.low == 0 and low.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert np.isnan(mean_interval(np.zeros(0))).all()


def test_it_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(400):
        interval = mean_interval(rng.random(500) < 0.8)
        inside += interval.low <= 0.8 <= interval.high
    assert 0.91 <= inside / 400 <= 0.98


def test_mcnemar_by_hand():
    # 3 examples that the first alone gets right, 9 that the second does: of 12 coins, at most 3 heads, both ways.
    first = np.repeat([1, 1, 0, 0], [50, 3, 9, 38]).astype(bool)
    second = np.repeat([1, 0, 1, 0], [50, 3, 9, 38]).astype(bool)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (3, 9)
    assert found.p_value == pytest.approx(2 * (1 + 12 + 66 + 220) / 2**12)
    assert found.difference == pytest.approx(0.06)
    assert found.interval.low < 0.06 < found.interval.high
    assert mcnemar(second, first).p_value == found.p_value


def test_mcnemar_is_the_published_statistic_where_counts_are_large():
    first, second = np.repeat([[1, 0], [0, 1]], [150, 86], axis=0).astype(bool).T  # Agresti's approval survey
    assert mcnemar(first, second).p_value == pytest.approx(chi2.sf((150 - 86) ** 2 / 236, 1), rel=0.25)
    assert mcnemar(first, second).p_value < 1e-4
    same = np.ones(5, bool)
    assert mcnemar(same, same).p_value == 1
