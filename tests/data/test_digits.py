# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnjax.data import digits, load_dataset
from cnnjax.errors import RunError
from cnnjax.types import Config


def test_digits_are_the_published_ones(data: Config):
    dataset = load_dataset(data)
    assert dataset.name == "digits"
    assert dataset.label_names == tuple("0123456789")
    sizes = {name: len(split.label) for name, split in dataset.splits.items()}
    assert sizes == {"train": 1294, "validation": 144, "test": 359}
    split = dataset.splits["train"]
    assert (split.image.shape, split.image.dtype, split.label.dtype) == ((1294, 8, 8, 1), np.uint8, np.int32)
    labels = np.concatenate([split.label for split in dataset.splits.values()])
    # class counts of the UCI test set
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_values_are_scaled_exactly(data: Config):
    image, label = digits.load_source("", data).splits["all"].read(0)
    # first row of the first digit, a zero, is 0 0 5 13 9 1 0 0: 5 * 255 / 16 = 79.7, 207.2, 143.4, 15.9
    assert (image[0].tolist(), label) == ([0, 0, 80, 207, 143, 16, 0, 0], 0)


def test_file_and_scikit_learn_agree(data: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = digits._table()
    elsewhere = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(digits.importlib.util, "find_spec", lambda name: elsewhere)
    np.testing.assert_array_equal(table, digits._table())


def test_without_scikit_learn(data: Config, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(digits.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match="pip install scikit-learn"):
        load_dataset(data)


def test_reading_leaves_scikit_learn_out(data: Config, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "sklearn", raising=False)
    load_dataset(data)
    assert "sklearn" not in sys.modules
