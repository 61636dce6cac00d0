# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.transfer.probes import METHODS, probe


def blobs(count: int, seed: int, distance: float = 3.0):
    """Two classes about +-distance/2 along the first of four axes."""
    generator = np.random.default_rng(seed)
    label = np.arange(count) % 2
    features = generator.normal(size=(count, 4))
    features[:, 0] += distance * (label - 0.5)
    return features.astype(np.float32), label


@pytest.mark.parametrize("method", METHODS)
def test_each_method_tells_two_blobs_apart_as_well_as_can_be(method: str):
    train, test = blobs(60, 0), blobs(400, 1)
    found = probe(method, train, test)
    assert found.accuracy > 0.87  # the best that can be is Phi(1.5) = 0.933
    assert found.correct.shape == (400,) and found.accuracy == found.correct.mean()
    assert found.chosen_on == "5-fold cross-validation" and found.chosen_accuracy is not None
    assert probe(method, train, test)[:5] == found[:5]


@pytest.mark.parametrize("method", METHODS)
def test_scales_of_the_features_do_not_matter(method: str):
    train, test, scale = blobs(40, 0), blobs(100, 1), np.array([1e-3, 1.0, 1e3, 10.0], np.float32)
    scaled = probe(method, (train[0] * scale, train[1]), (test[0] * scale, test[1]))
    assert abs(scaled.accuracy - probe(method, train, test).accuracy) <= 0.01


def test_the_setting_is_chosen_on_validation_where_there_is_one():
    train, test = blobs(40, 0, distance=0.5), blobs(200, 1, distance=0.5)
    chosen = probe("neighbours", train, test, validation=train)  # its own rows: the nearest is itself
    assert chosen.setting == "k = 1" and chosen.chosen_accuracy == 1.0 and chosen.chosen_on == "validation"
    assert probe("neighbours", train, test).setting != "k = 1"


def test_folds_are_as_many_as_the_smallest_class_allows():
    features, label = blobs(20, 0)
    rows = np.flatnonzero((label == 0) | (np.arange(20) < 6))  # three of class 1
    assert probe("ridge", (features[rows], label[rows]), blobs(20, 1)).chosen_on == "3-fold cross-validation"
    alone = probe("ridge", (features[:2], label[:2]), blobs(20, 1))
    assert alone.chosen_on.startswith("nothing") and alone.setting == "alpha = 1000"
    assert probe("neighbours", (features[:2], label[:2]), blobs(20, 1)).setting == "k = 1"


def test_errors():
    features, label = blobs(6, 0)
    with pytest.raises(UsageError, match="of one class only"):
        probe("ridge", (features, label * 0), (features, label))
    with pytest.raises(UsageError, match="did you mean 'ridge'"):
        probe("rigde", (features, label), (features, label))
