# SPDX-License-Identifier: Apache-2.0
"""What is told of a data set before training."""

import numpy as np
import pytest

from cnnjax.data.overview import check_classes, mixture, overview
from cnnjax.errors import UsageError
from cnnjax.types import Dataset, Split
from experiments import default


def dataset(**counts: list[int]) -> Dataset:
    """`train=[3, 1]`: three pictures of the first class, one of the second."""
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: len(next(iter(counts.values())))])
    labels = {name: np.repeat(np.arange(len(count), dtype=np.int32), count) for name, count in counts.items()}
    splits = {name: Split(np.zeros((len(label), 2, 2, 1), np.uint8), label) for name, label in labels.items()}
    return Dataset("set", names, splits)


def told(data: Dataset, **values) -> str:
    config = default.get_config().data
    config.update(values)
    return overview(data, config)


def test_counts_by_class_and_split_largest_first():
    lines = told(dataset(train=[1000, 1900], test=[10, 20])).splitlines()
    assert [line.split() for line in lines if line[:1] in "ab" and "  " in line][:3] == [
        ["b", "1,900", "20"],
        ["a", "1,000", "10"],
        ["all", "2,900", "30"],
    ]


def test_many_classes_are_taken_together():
    text = told(dataset(train=[100] * 20 + [90] * 6))
    assert "6 smaller classes" in text and "540" in text and "\nz" not in text


def test_uneven_classes_and_small_sets_are_told_with_the_remedy():
    text = told(dataset(train=[300, 100]))
    assert "3.0 times the pictures of the smallest" in text and "right for 75.0%" in text
    assert "config.task.class_weights" in text and "config.data.folds=5" in text
    assert "times" not in told(dataset(train=[300, 100]), balance=True)
    assert "folds" not in told(dataset(train=[300, 100]), folds=5)
    quiet = told(dataset(train=[1400, 1000], test=[100, 100]))
    assert "times" not in quiet and "folds" not in quiet


def test_a_class_without_pictures_is_one_line():
    check_classes(dataset(train=[1, 1]))
    with pytest.raises(UsageError, match="none of b; add pictures"):
        check_classes(dataset(train=[3, 0]))
    with pytest.raises(UsageError, match="2 pictures for 3 classes"):
        check_classes(dataset(train=[1, 0, 1]))


def test_pictures_of_several_kinds_are_summed_up():
    stored = {(10, 20, "L"): 1, (30, 10, "RGB"): 1200, (30, 10, "L"): 2, (5, 5, "RGB"): 3}
    told = mixture(stored, (8, 8, 3))
    assert told == "3 sizes, 5x5 to 30x10 pixels (height x width), 1,203 colour, 3 gray; all made 8x8x3"
    assert mixture({(10, 20, "L"): 1, (10, 20, "P"): 4}, (10, 20, 1)).startswith("10x20 pixels")
    assert mixture({(10, 20, "L"): 9}, (10, 20, 1)) == mixture({}, (1, 1, 1)) == ""
