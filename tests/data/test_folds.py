# SPDX-License-Identifier: Apache-2.0
"""Cross-validation: what each fold holds."""

import numpy as np
import pytest

from cnnjax.data import load_dataset
from cnnjax.data.folds import divide, num_folds
from cnnjax.errors import RunError, UsageError
from cnnjax.types import Split
from experiments import default

LABEL = np.array([0] * 20 + [1] * 10 + [2] * 5, np.int32)
POOL = Split(np.arange(35, dtype=np.uint8).reshape(35, 1, 1, 1), LABEL)


def data(**values):
    config = default.get_config().data
    config.update({"folds": 5, "fold": 0, "validation_fraction": 0.0, **values})
    return config


def rows(split: Split) -> list[int]:
    return split.image[:, 0, 0, 0].tolist()


def test_every_picture_is_tested_once_in_each_repeat_and_never_trained_on():
    settings = {"fold_repeats": 2, "validation_fraction": 0.2}
    tested = []
    for fold in range(10):
        parts = divide(POOL, "abc", data(fold=fold, **settings))
        assert sorted(row for part in parts.values() for row in rows(part)) == list(range(35))
        assert np.bincount(parts["test"].label).tolist() == [4, 2, 1]  # 7 of 35, classes in their shares
        assert len(parts["validation"].label) == 5  # a fifth of 28, rounded down
        assert rows(parts["test"]) == sorted(rows(parts["test"]))
        tested.append(rows(parts["test"]))
    assert np.sort(np.concatenate(tested[:5])).tolist() == list(range(35))
    assert np.sort(np.concatenate(tested[5:])).tolist() == list(range(35))
    assert tested[:5] != tested[5:]


def test_the_same_folds_whatever_the_seed_of_the_run_and_others_for_another_split_seed():
    def first(**values):
        return rows(divide(POOL, "abc", data(**values))["test"])

    assert first() == first() != first(split_seed=1)
    assert "validation" not in divide(POOL, "abc", data())


def test_sizes_differ_by_one_at_most():
    pool = Split(np.zeros((23, 1, 1, 1), np.uint8), np.array([0] * 11 + [1] * 12, np.int32))
    sizes = [len(divide(pool, "ab", data(fold=fold))["test"].label) for fold in range(5)]
    assert sorted(sizes) == [4, 4, 5, 5, 5]


def test_wrong_folds_are_one_line():
    for values, message in (
        ({"folds": 1, "fold": -1}, "config.data.folds is 1"),
        ({"folds": 5, "fold": 5}, "5 folds x 1 repeats make 5; 0 is the first"),
        ({"folds": 0, "fold": 2}, "config.data.fold is 2"),
    ):
        with pytest.raises(UsageError, match=message):
            num_folds(data(**values))
    assert num_folds(data(folds=0, fold=-1)) == 0 and num_folds(data(folds=3, fold_repeats=2)) == 6
    with pytest.raises(RunError, match=r"the class c has 5 pictures, too few for 6 folds"):
        divide(POOL, "abc", data(folds=6))


def test_a_set_is_loaded_by_fold():
    config = default.get_config().data
    config.update({"source": "synthetic", "folds": 4, "fold": 1})
    config.synthetic.update({"num_examples": 60, "num_classes": 3, "image_shape": (4, 4, 1)})
    parts = load_dataset(config).splits
    assert {name: len(part.label) for name, part in parts.items()} == {"train": 41, "validation": 4, "test": 15}
    np.testing.assert_array_equal(load_dataset(config, ("test",)).splits["test"].image, parts["test"].image)
