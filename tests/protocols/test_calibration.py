# SPDX-License-Identifier: Apache-2.0
"""Calibration against numbers worked out by hand."""

import numpy as np
import pytest

from cnnjax.protocols.calibration import calibrate, fit_temperature, quality


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


def test_quality_by_hand():
    logits = np.log(np.array([[0.8, 0.1, 0.1], [0.3, 0.3, 0.4]]))
    found = quality(logits, np.array([0, 1]))
    assert found.nll == pytest.approx(-(np.log(0.8) + np.log(0.3)) / 2)
    brier = (0.2**2 + 0.1**2 + 0.1**2 + 0.3**2 + 0.7**2 + 0.4**2) / 2
    assert found.brier == pytest.approx(brier)
    assert found.ece == pytest.approx((0.2 + 0.4) / 2)
    flat = quality(logits, np.array([0, 1]), temperature=1e9)
    assert flat.nll == pytest.approx(np.log(3))


def test_the_temperature_of_logits_that_were_scaled_is_found_again():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(4000, 5)) * 2
    probability = np.exp(truth) / np.exp(truth).sum(axis=1, keepdims=True)
    label = (probability.cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1)
    temperature = fit_temperature(3 * truth.astype(np.float32), label)
    assert temperature == pytest.approx(3, rel=0.05)
    grid = np.linspace(2.5, 3.5, 101)
    best = grid[np.argmin([quality(3 * truth, label, each).nll for each in grid])]
    assert temperature == pytest.approx(best, abs=0.011)
    assert quality(3 * truth, label).ece > 3 * quality(3 * truth, label, temperature).ece
