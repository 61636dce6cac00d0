# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from cnnjax.data import load_dataset
from cnnjax.errors import UsageError
from cnnjax.types import Config


@pytest.fixture
def data(data: Config) -> Config:
    data.source = "synthetic"
    return data


def test_sizes_and_shapes(data: Config):
    data.synthetic.num_examples, data.synthetic.num_classes, data.synthetic.image_shape = 40, 3, (5, 9, 2)
    dataset = load_dataset(data)
    assert dataset.label_names == ("class 0", "class 1", "class 2")
    assert {name: split.image.shape for name, split in dataset.splits.items()} == {
        "train": (40, 5, 9, 2),
        "validation": (10, 5, 9, 2),
        "test": (10, 5, 9, 2),
    }
    assert dataset.splits["train"].label.tolist() == [0, 1, 2] * 13 + [0]


def test_seeded(data: Config):
    data.synthetic.num_examples = 8
    first, again = load_dataset(data), load_dataset(data)
    data.split_seed = 1
    other = load_dataset(data)
    np.testing.assert_array_equal(first.splits["test"].image, again.splits["test"].image)
    assert (first.splits["test"].image != other.splits["test"].image).any()


def test_no_picture_twice(data: Config):
    data.synthetic.num_examples = 64
    images = np.concatenate([split.image for split in load_dataset(data).splits.values()])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == 64 + 16 + 16


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (7, 5, 1)])
def test_learnable(data: Config, shape: tuple[int, int, int]):
    """The nearest mean of a class on a few examples classifies the test split."""
    data.synthetic.num_examples, data.synthetic.image_shape = 50, shape
    splits = load_dataset(data).splits
    train = splits["train"].image.reshape(50, -1) / 255
    means = np.stack([train[splits["train"].label == k].mean(axis=0) for k in range(10)])
    test = splits["test"].image.reshape(len(splits["test"].label), -1) / 255
    guess = np.argmin(np.linalg.norm(test[:, None] - means[None], axis=2), axis=1)
    np.testing.assert_array_equal(guess, splits["test"].label)
    # Noise is uniform on a quarter of the range: its standard deviation is 0.25 / sqrt(12) = 0.072.
    assert np.std(train - means[splits["train"].label]) == pytest.approx(0.072, rel=0.2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_examples": 0}, "num_examples is 0"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"image_shape": (8, 8)}, "height, width, channels"),
        ({"image_shape": (8, 0, 1)}, "height, width, channels"),
    ],
)
def test_errors(data: Config, change: dict, words: str):
    data.synthetic.update(change)
    with pytest.raises(UsageError, match=words) as caught:
        load_dataset(data)
    assert "\n" not in str(caught.value)
