# SPDX-License-Identifier: Apache-2.0
"""Calibration against numbers worked out by hand."""

import numpy as np
import pytest

from cnnjax.page.calibration import calibrate


def test_ece_of_two_bins_by_hand():
    # Bin 0..0.5: confidence 0.4, 1 of 2 right: gap 0.1. Bin 0.5..1: confidence 0.9, 1 of 2 right: gap 0.4.
    probability = np.array([0.3, 0.5, 0.8, 1.0], np.float32)
    found = calibrate(probability, np.array([True, False, True, False]), num_bins=2)
    assert found.count.tolist() == [2, 2]
    np.testing.assert_allclose(found.confidence, [0.4, 0.9], rtol=1e-6)
    np.testing.assert_allclose(found.accuracy, [0.5, 0.5])
    assert found.ece == pytest.approx(0.5 * 0.1 + 0.5 * 0.4)


def test_edges_belong_to_the_bin_below():
    found = calibrate(np.array([0.0, 0.25, 0.5, 0.75, 1.0]), np.ones(5, bool), num_bins=4)
    assert found.count.tolist() == [2, 1, 1, 1]


def test_a_network_right_as_often_as_it_says_has_no_error():
    probability, correct = np.full(10, 0.7), np.arange(10) < 7
    assert calibrate(probability, correct).ece == pytest.approx(0.0, abs=1e-12)


def test_empty_bins_are_nan_and_count_nothing():
    found = calibrate(np.array([0.95]), np.array([True]))
    assert np.isnan(found.accuracy[0]) and found.ece == pytest.approx(0.05)
