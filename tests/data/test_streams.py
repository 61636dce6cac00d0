# SPDX-License-Identifier: Apache-2.0
"""A streamed set gives the batches of one that lies on the device."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import load_dataset
from cnnjax.data.batches import Part, TrainBatches
from cnnjax.data.resident import num_batches
from cnnjax.data.streamed import cropped, is_streamed, rows_of
from cnnjax.data.streams import device_config, eval_stream, host_crop, most_steps, train_stream
from cnnjax.errors import RunError, UsageError
from cnnjax.types import Config, Dataset, Stream
from experiments import default


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """30 JPEGs of several sizes in two classes."""
    random = np.random.default_rng(0)
    for name, count in (("cat", 20), ("dog", 10)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(count):
            image = random.integers(0, 256, (12 + i, 20 - i % 3, 3)).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "set" / name / f"{i}.jpg")
    return tmp_path / "set"


@pytest.fixture
def config(pictures: Path) -> Config:
    config = default.get_config()
    config.data.source = f"folder:{pictures}"
    config.data.image_size = (8, 8)
    config.data.batch_size = 4
    return config


def load(config: Config, stream: str) -> Dataset:
    config.data.stream = stream
    return load_dataset(config.data)


def batches(stream: Stream, first: int, count: int) -> list[dict[str, Any]]:
    items = stream.items(first, count)
    return [dict(stream.batch(stream.arrays, {name: x[i] for name, x in items.items()})) for i in range(count)]


def check_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        if name == "partner":
            check_same(value, theirs["partner"])
        else:
            np.testing.assert_array_equal(value, theirs[name])


@pytest.mark.parametrize("with_partner", [False, True])
@pytest.mark.parametrize("keys", [{}, {"balance": True}, {"labels": ("dog", "cat")}, {"train_examples": 9}])
def test_training_batches_are_those_of_a_resident_set(config: Config, keys: dict[str, Any], with_partner: bool):
    config.data.update(keys)
    resident, streamed = load(config, "false"), load(config, "true")
    assert is_streamed(streamed.splits["train"]) and not is_streamed(resident.splits["train"])
    here, there = (
        train_stream(config, each.splits["train"], with_partner=with_partner) for each in (resident, streamed)
    )
    for first, count in ((0, 3), (3, 1), (20, 2), (1, 1)):  # across epochs, and backwards
        for ours, theirs in zip(batches(there, first, count), batches(here, first, count), strict=True):
            check_same(ours, theirs)
    there.close()


def test_evaluation_takes_each_example_once_in_order(config: Config):
    resident, streamed = load(config, "false").splits["train"], load(config, "true").splits["train"]
    here, there = (eval_stream(config.data, split, batch_size=5) for split in (resident, streamed))
    steps = num_batches(here)
    assert num_batches(there) == steps
    for _ in range(2):  # it begins again
        for step in range(steps):
            (ours,), (theirs,) = batches(there, step, 1), batches(here, step, 1)
            real = ours["mask"] > 0
            for name, value in ours.items():
                np.testing.assert_array_equal(value[real], np.asarray(theirs[name])[real])
            np.testing.assert_array_equal(ours["mask"], theirs["mask"])


def test_labels_folds_and_rows_need_no_decoding(config: Config, monkeypatch: pytest.MonkeyPatch):
    config.data.folds, config.data.fold = 5, 1
    resident, streamed = load(config, "false"), load(config, "true")
    for name, split in streamed.splits.items():
        np.testing.assert_array_equal(split.label, resident.splits[name].label)
        assert split.image.shape == resident.splits[name].image.shape and split.image.dtype == np.uint8
        chosen = np.array([1, 0])
        np.testing.assert_array_equal(split.image[chosen], resident.splits[name].image[chosen])
        np.testing.assert_array_equal(split.image[-1], resident.splits[name].image[-1])
        np.testing.assert_array_equal(np.asarray(split.image), resident.splits[name].image)
    config.data.max_resident_gib = 1e-9
    with pytest.raises(UsageError, match=r"streamed.*config.data.max_resident_gib is 9"):
        np.asarray(load(config, "true").splits["train"].image)


def test_auto_streams_what_does_not_fit(config: Config):
    size = 30 * 8 * 8 * 3 / 2**30
    config.data.max_resident_gib = size
    assert not is_streamed(load(config, "auto").splits["test"])
    config.data.max_resident_gib = size * 0.99
    assert is_streamed(load(config, "auto").splits["test"])
    config.data.labels = ("cat", "dog")
    assert is_streamed(load(config, "auto").splits["test"])
    config.data.labels, config.data.max_resident_gib = ("cat",), size * 2 / 3
    assert not is_streamed(load(config, "auto").splits["test"])


def test_a_set_without_files_cannot_be_streamed():
    config = default.get_config()
    with pytest.raises(UsageError, match=r"digits cannot be streamed.*config.data.stream=auto"):
        load(config, "true")


def test_crops_are_of_the_whole_picture_and_new_in_each_epoch(config: Config):
    config.augment.crop_area = (0.1, 0.5)
    split = load(config, "true").splits["train"]
    ranges = host_crop(config, split)
    assert ranges and device_config(config, split).augment.crop_area == (1.0, 1.0)
    stream = train_stream(config, split)
    seen = {}
    for batch in batches(stream, 0, 12):  # two epochs
        for image, example, epoch in zip(batch["image"], batch["example"], batch["epoch"], strict=True):
            seen[int(example), int(epoch)] = image
            np.testing.assert_array_equal(image, cropped(rows_of(split), example, epoch, config.seed, ranges))
    stream.close()
    assert all((seen[row, 0] != seen[row, 1]).any() for row in range(5))
    config.data.crop_whole = False
    assert host_crop(config, split) is None and device_config(config, split) is config


def test_processes_make_equal_shares_of_a_batch(config: Config):
    config.augment.crop_area = (0.1, 0.5)
    split = load(config, "true").splits["train"]

    def made(first: int, count: int) -> dict[str, np.ndarray]:
        part = Part(4, first, count)
        return TrainBatches(
            rows_of(split), split.label, part, 2, seed=0, with_partner=True, ranges=host_crop(config, split)
        )[7]

    whole, halves = made(0, 4), (made(0, 2), made(2, 2))
    for name, value in whole.items():
        np.testing.assert_array_equal(value, np.concatenate([half[name] for half in halves]))


def test_a_file_that_vanishes_or_is_damaged_is_named(config: Config, pictures: Path):
    split = load(config, "true").splits["train"]
    stream = train_stream(config, split)
    batches(stream, 0, 1)
    shutil.move(pictures / "cat", pictures / "gone")
    with pytest.raises(RunError, match=r"set/cat/\d+.jpg cannot be read \(No such file or directory\); mend"):
        batches(stream, 0, 10)
    shutil.move(pictures / "gone", pictures / "cat")
    batches(stream, 0, 1)  # it begins anew
    for file in (pictures / "dog").iterdir():
        file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(RunError, match=r"set/dog/\d+.jpg cannot be read \(.+\); mend"):
        batches(stream, 1, 10)
    stream.close()


def test_skipped_pictures_are_masked(config: Config, pictures: Path):
    config.data.on_bad_image = "skip"
    stream = train_stream(config, load(config, "true").splits["train"])
    shutil.rmtree(pictures / "dog")
    for batch in batches(stream, 0, 5):
        np.testing.assert_array_equal(batch["mask"], batch["label"] == 0)
        np.testing.assert_array_equal(batch["mask"], (batch["image"] > 0).any(axis=(1, 2, 3)))
    stream.close()


def test_pictures_of_another_size_are_told(config: Config):
    config.data.image_size = ()
    stream = train_stream(config, load(config, "true").splits["train"])
    with pytest.raises(UsageError, match=r"first picture is colour of 12x20.*jpg is.*config.data.image_size"):
        batches(stream, 0, 10)


def test_a_call_takes_as_many_steps_as_fit_into_memory(config: Config):
    stream = train_stream(config, load(config, "true").splits["train"])
    assert most_steps(stream, 50) == 50
    assert most_steps(stream._replace(blank=lambda count: {"image": np.empty((2**27,), np.uint8)}), 50) == 2
    assert most_steps(stream._replace(blank=lambda count: {"image": np.empty((2**29,), np.uint8)}), 50) == 1
    resident = train_stream(config, load(config, "false").splits["train"])
    assert most_steps(resident, 50) == 50


def test_a_batch_larger_than_the_set(config: Config, make_folder: Callable[..., Path]):
    config.data.batch_size = 25
    with pytest.raises(UsageError, match="larger than the training set of 22"):
        train_stream(config, load(config, "true").splits["train"])
