# SPDX-License-Identifier: Apache-2.0
"""Diversity by hand, and Cohen's kappa and the correlation against other libraries."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from cnnjax.protocols.diversity import diversity, mean_diversity, pairwise

LABEL = np.zeros(10, int)
# Both right 4, only the first 2, only the second 1, neither 3 (of which 2 with the same answer).
FIRST = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 1])
SECOND = np.array([0, 0, 0, 0, 1, 1, 0, 1, 2, 2])


def test_the_measures_by_hand():
    found = diversity(FIRST, SECOND, LABEL)
    assert found.disagreement == pytest.approx(0.4)
    assert found.q_statistic == pytest.approx((4 * 3 - 2 * 1) / (4 * 3 + 2 * 1))
    right = (FIRST == 0).astype(float), (SECOND == 0).astype(float)
    assert found.error_correlation == pytest.approx(np.corrcoef(*right)[0, 1])
    assert found.kappa == pytest.approx(cohen_kappa_score(FIRST, SECOND))


def test_the_same_network_twice_and_none_that_errs():
    same = diversity(FIRST, FIRST, LABEL)
    assert same == pytest.approx((0, 1, 1, 1))
    right = diversity(LABEL, LABEL, LABEL)
    assert right.disagreement == 0 and np.isnan(right[1:]).all()


def test_pairs_and_their_mean_leave_out_what_is_not_known():
    pairs = pairwise(np.stack([FIRST, SECOND, LABEL]), LABEL)
    assert list(pairs) == [(0, 1), (0, 2), (1, 2)]
    mean = mean_diversity(pairs)
    assert mean.disagreement == pytest.approx((0.4 + 0.4 + 0.5) / 3)
    assert mean.q_statistic == pytest.approx(pairs[0, 1].q_statistic)  # the others divide by nothing
