# SPDX-License-Identifier: Apache-2.0
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import cache, decode, load_dataset
from cnnjax.errors import CnnjaxError, RunError, UsageError
from cnnjax.types import Config


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def folder(data: Config, make_folder: Callable[..., Path]) -> Path:
    folder = make_folder({"cat": 20, "dog": 20})
    data.source = f"folder:{folder}"
    return folder


def test_only_the_wanted_splits_are_decoded(data: Config, folder: Path, monkeypatch: pytest.MonkeyPatch):
    titles, original = [], decode.decode
    monkeypatch.setattr(decode, "decode", lambda *args: titles.append(args[-1]) or original(*args))
    dataset = load_dataset(data, ("test",))
    assert list(dataset.splits) == ["test"]
    assert titles == ["set test"]
    assert len(dataset.splits["test"].label) == 8


def test_splits_hold_every_picture_once(data: Config, folder: Path):
    dataset = load_dataset(data)
    assert list(dataset.splits) == ["train", "validation", "test"]
    values = np.concatenate([split.image[:, 0, 0, 0] for split in dataset.splits.values()])
    assert sorted(values.tolist()) == sorted([*range(20), *range(40, 60)])
    for split in dataset.splits.values():
        np.testing.assert_array_equal(split.label, split.image[:, 0, 0, 0] >= 20)


def test_a_hit_equals_a_miss_and_decodes_nothing(
    data: Config, folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    miss = load_dataset(data)
    assert len(list(own_cache.iterdir())) == 3
    with monkeypatch.context() as context:
        context.setattr(decode, "decode", None)
        context.setattr(decode, "image_bytes", None)
        hit = load_dataset(data)
    for name, split in miss.splits.items():
        np.testing.assert_array_equal(split.image, hit.splits[name].image)
        np.testing.assert_array_equal(split.label, hit.splits[name].label)


def test_a_cut_cache_is_decoded_anew(data: Config, folder: Path, own_cache: Path):
    miss = load_dataset(data)
    for file in own_cache.glob("*/image.npy"):
        file.write_bytes(file.read_bytes()[:-10])
    again = load_dataset(data)
    np.testing.assert_array_equal(miss.splits["train"].image, again.splits["train"].image)


@pytest.mark.parametrize(
    "change",
    [
        {"color": "gray"},
        {"exif_orientation": False},
        {"image_size": (2, 2)},
        {"resize": "stretch"},
        {"interpolation": "nearest"},
        {"labels": ("dog", "cat")},
        {"split_seed": 1},
        {"test_fraction": 0.5},
    ],
)
def test_whatever_decides_the_pixels_decides_the_key(
    data: Config, folder: Path, own_cache: Path, change: dict, monkeypatch: pytest.MonkeyPatch
):
    keys = []
    monkeypatch.setattr(cache, "load", keys.append)
    monkeypatch.setattr(cache, "store", lambda key, split: None)
    load_dataset(data, ("train",))
    data.batch_size, data.mean = 7, (0.5,)
    load_dataset(data, ("train",))
    data.update(change)
    load_dataset(data, ("train",))
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("source", ["digits", "synthetic"])
def test_quick_sources_are_not_cached(data: Config, own_cache: Path, source: str):
    data.source, data.synthetic.num_examples = source, 8
    load_dataset(data)
    assert not own_cache.exists()


def spoil(folder: Path) -> list[Path]:
    spoilt = [folder / "cat" / f"{i}.png" for i in range(5)]
    for path in spoilt:
        path.write_bytes(path.read_bytes()[:45])
    return spoilt


def test_unreadable_pictures_are_listed_before_anything_else(data: Config, folder: Path, own_cache: Path):
    spoil(folder)
    with pytest.raises(
        RunError, match=r"5 of the pictures cannot be read: .*png.*and 2 more; .*on_bad_image=skip"
    ) as e:
        load_dataset(data)
    assert str(e.value).count(".png") == 3
    assert "\n" not in str(e.value)


def test_unreadable_pictures_are_skipped_counted_and_logged(
    data: Config, folder: Path, caplog: pytest.LogCaptureFixture
):
    spoil(folder)
    data.on_bad_image = "skip"
    for _ in range(2):  # the second time, too: what was incomplete is not cached
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="cnnjax"):
            dataset = load_dataset(data)
        assert sum(len(split.label) for split in dataset.splits.values()) == 35
        assert [record.getMessage().split(":")[0] for record in caplog.records] == ["5 of the pictures cannot be read"]


def test_labels(data: Config, make_folder: Callable[..., Path]):
    data.source, data.labels = f"folder:{make_folder({'a': 30, 'b': 30, 'c': 30})}", ("c", "a")
    dataset = load_dataset(data)
    assert dataset.label_names == ("c", "a")
    for split in dataset.splits.values():
        np.testing.assert_array_equal(split.label, split.image[:, 0, 0, 0] < 30)


def test_size_is_refused_before_decoding(data: Config, folder: Path, monkeypatch: pytest.MonkeyPatch):
    data.stream = "false"
    data.max_resident_gib = 40 * 4 * 6 * 3 / 2**30
    load_dataset(data)
    data.max_resident_gib = (40 * 4 * 6 * 3 - 1) / 2**30
    with pytest.raises(RunError, match=r"config.data.max_resident_gib"):
        load_dataset(data)  # from the cache
    data.interpolation = "nearest"
    monkeypatch.setattr(decode, "decode", None)
    with pytest.raises(RunError, match=r"images of set take .* GiB.*config.data.image_size"):
        load_dataset(data)


def test_dropped_labels_do_not_count_towards_the_size(data: Config, folder: Path):
    data.stream = "false"
    data.labels, data.max_resident_gib = ("cat",), 20 * 4 * 6 * 3 / 2**30
    assert sum(len(split.label) for split in load_dataset(data).splits.values()) == 20
    data.labels, data.max_resident_gib = ("cat", "dog"), (40 * 4 * 6 * 3 - 1) / 2**30  # the last split goes over
    with pytest.raises(RunError, match=r"config.data.max_resident_gib"):
        load_dataset(data)


def test_splits_of_two_shapes(data: Config, make_folder: Callable[..., Path]):
    folder = make_folder({"train/a": 5, "train/b": 5, "test/a": 1})
    Image.new("RGB", (6, 5)).save(folder / "test" / "a" / "0.png")
    data.source = f"folder:{folder}"
    with pytest.raises(UsageError, match=r"the train split is colour of 4x6 .* the test split is colour of 5x6"):
        load_dataset(data)


def test_mixed_sizes_name_two_files(data: Config, folder: Path):
    Image.new("RGB", (6, 5)).save(folder / "dog" / "7.png")
    with pytest.raises(UsageError, match=r"\d\.png is .*, but .*\d\.png is .*; set config.data.image_size"):
        load_dataset(data)
    data.image_size = (4, 4)
    assert load_dataset(data).splits["train"].image.shape[1:] == (4, 4, 3)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"source": "digit"}, UsageError, "unknown data source 'digit'; did you mean 'digits'"),
        ({"source": "digits:8"}, UsageError, "not of the form digits;"),
        ({"source": "folder"}, UsageError, "not of the form folder:PATH"),
        ({"source": "tfds:"}, UsageError, "not of the form tfds:NAME"),
        ({"on_bad_image": "ignore"}, UsageError, "config.data.on_bad_image"),
        ({"labels": ("10",)}, UsageError, "unknown label '10'"),
        ({"color": "grey"}, UsageError, "did you mean 'gray'"),
        (
            {"labels": ("7",), "train_split": "all[:2]", "validation_fraction": 0.0},
            RunError,
            "train split .*no pictures",
        ),
    ],
)
def test_errors(data: Config, change: dict, error: type[CnnjaxError], words: str):
    data.update(change)
    with pytest.raises(error, match=words) as caught:
        load_dataset(data)
    assert "\n" not in str(caught.value)


def test_unknown_split_wanted(data: Config):
    with pytest.raises(UsageError, match="did you mean 'validation'"):
        load_dataset(data, ("val",))


def test_nothing_heavy_is_imported_unasked():
    program = (
        "import sys; from cnnjax.data import load_dataset; from experiments import default;"
        "load_dataset(default.get_config().data);"
        "print([n for n in ('sklearn', 'tensorflow', 'tensorflow_datasets', 'matplotlib') if n in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
