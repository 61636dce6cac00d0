# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from cnnjax.data.carve import carve, stratified
from cnnjax.errors import CnnjaxError, RunError, UsageError
from cnnjax.types import Config


def split_names(parts: dict) -> dict[str, tuple[str, int]]:
    return {name: (part.split, len(part.indices)) for name, part in parts.items()}


def test_all_three_given_are_taken_whole(data: Config):
    parts = carve({"train": 10, "validation": 4, "test": 5, "extra": 9}, data)
    assert split_names(parts) == {"train": ("train", 10), "validation": ("validation", 4), "test": ("test", 5)}
    assert parts["test"].indices.tolist() == [0, 1, 2, 3, 4]


def test_validation_is_carved_from_train(data: Config):
    parts = carve({"train": 60000, "test": 10000}, data)
    assert split_names(parts) == {"train": ("train", 54000), "validation": ("train", 6000), "test": ("test", 10000)}


def test_carved_parts_are_disjoint_sorted_and_complete(data: Config):
    parts = carve({"all": 1797}, data)
    # 20% of 1797 is 359.4; 10% of the remaining 1438 is 143.8.
    assert split_names(parts) == {"train": ("all", 1294), "validation": ("all", 144), "test": ("all", 359)}
    indices = [part.indices for part in parts.values()]
    assert sorted(np.concatenate(indices).tolist()) == list(range(1797))
    assert all((np.diff(each) > 0).all() for each in indices)


@pytest.mark.parametrize(("sizes", "carved"), [({"all": 100}, "test"), ({"train": 100, "test": 9}, "validation")])
def test_carving_is_seeded_by_the_split_seed(data: Config, sizes: dict[str, int], carved: str):
    first, again = carve(sizes, data), carve(sizes, data)
    data.split_seed = 1
    other = carve(sizes, data)
    for name in ("train", carved):
        np.testing.assert_array_equal(first[name].indices, again[name].indices)
        assert first[name].indices.tolist() != other[name].indices.tolist()


def test_test_does_not_depend_on_the_validation_fraction(data: Config):
    before = carve({"all": 100}, data)["test"].indices
    data.validation_fraction = 0.5
    np.testing.assert_array_equal(carve({"all": 100}, data)["test"].indices, before)


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_the_only_other_split_is_test_and_never_chooses_a_checkpoint(data: Config, name: str):
    parts = carve({"train": 100, name: 30}, data)
    assert split_names(parts) == {"train": ("train", 90), "validation": ("train", 10), "test": (name, 30)}


def test_validation_named_as_test_is_test(data: Config):
    data.test_split = "validation"
    parts = carve({"train": 100, "validation": 30, "test": 50}, data)
    assert split_names(parts) == {"train": ("train", 90), "validation": ("train", 10), "test": ("validation", 30)}


def test_a_fraction_of_0_carves_nothing(data: Config):
    data.validation_fraction = data.test_fraction = 0.0
    assert split_names(carve({"all": 10}, data)) == {"train": ("all", 10)}


def test_slices(data: Config):
    data.train_split, data.test_split = "train[:10%]", "train[-200:]"
    parts = carve({"train": 1000}, data)
    assert split_names(parts) == {"train": ("train", 90), "validation": ("train", 10), "test": ("train", 200)}
    assert parts["test"].indices[0] == 800
    data.train_split = "train[100:205]"
    union = np.concatenate([part.indices for name, part in carve({"train": 1000}, data).items() if name != "test"])
    assert sorted(union.tolist()) == list(range(100, 205))


def test_a_slice_the_source_offers_itself(data: Config):
    data.train_split = "train[:10%]"
    assert split_names(carve({"train[:10%]": 20, "test": 5}, data))["train"] == ("train[:10%]", 18)


@pytest.mark.parametrize(
    ("change", "sizes", "error", "words"),
    [
        ({"train_split": "trian"}, {"train": 9, "test": 9}, UsageError, "did you mean 'train'"),
        ({"train_split": "trian"}, {"all": 9}, UsageError, "config.data.train_split"),
        ({"test_split": "tset"}, {"train": 9, "test": 9}, UsageError, "did you mean 'test'"),
        ({"test_split": "train[50%:]"}, {"train": 9}, UsageError, "overlap"),
        ({"train_split": "train[9:]"}, {"train": 9, "test": 9}, UsageError, "no pictures"),
        ({"validation_fraction": 1.0}, {"train": 9}, UsageError, "config.data.validation_fraction"),
        ({"test_fraction": -0.1}, {"train": 9}, UsageError, "config.data.test_fraction"),
        ({}, {"all": 2}, RunError, "too few pictures"),
        ({}, {"train": 0, "test": 1}, RunError, "too few pictures"),
    ],
)
def test_errors(data: Config, change: dict, sizes: dict, error: type[CnnjaxError], words: str):
    data.update(change)
    with pytest.raises(error, match=words) as caught:
        carve(sizes, data)
    assert "\n" not in str(caught.value)


def test_a_stratified_subset_keeps_the_shares_and_grows():
    label = np.array([0] * 60 + [1] * 30 + [2] * 10)
    before: set[int] = set()
    for count in (3, 10, 50, 100):
        rows = stratified(label, count, 3, seed=4)
        assert len(rows) == count == len(set(rows.tolist())) and (np.diff(rows) > 0).all()
        assert before <= set(rows.tolist())
        before = set(rows.tolist())
        np.testing.assert_allclose(
            np.bincount(label[rows]), np.maximum([0.6 * count, 0.3 * count, 0.1 * count], 1), atol=1
        )
    assert stratified(label, 10, 3, seed=5).tolist() != stratified(label, 10, 3, seed=4).tolist()
    assert stratified(label, 3, 3, seed=4).tolist() == stratified(label, 3, 3, seed=4).tolist()


def test_a_stratified_subset_too_small_or_too_large():
    label = np.array([0, 1, 2, 2])
    with pytest.raises(UsageError, match="train_examples is 2, but there are 3 classes"):
        stratified(label, 2, 3, seed=0)
    with pytest.raises(UsageError, match="train_examples is 5, but the training set has 4 pictures"):
        stratified(label, 5, 3, seed=0)
