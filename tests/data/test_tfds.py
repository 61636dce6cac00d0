# SPDX-License-Identifier: Apache-2.0
"""Sets by name: a tiny one written here in ArrayRecord, the ways of not finding one, and the real ones if there."""

import functools
import io
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cnnjax.data import download, raw
from cnnjax.data.tfds import Name, attributes, data_folder, load_source, parse_name, read_blocks
from cnnjax.errors import RunError, UsageError
from cnnjax.types import Config, Source
from experiments.default import get_config

ROOT = pathlib.Path(__file__).parents[2]
SIZES = {"train": 5, "validation": 2, "test": 3}


def picture(split: str, i: int) -> np.ndarray:
    """uint8 [4,6,3], another one for each record."""
    return np.arange(72, dtype=np.uint8).reshape(4, 6, 3) + 7 * i + len(split)


def encoded(array: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    file.seek(0)
    return file


class _Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # its subclasses are registered
    VERSION = tfds.core.Version("1.0.0")
    FEATURES: dict[str, Any]
    SUPERVISED: tuple[str, str] | None = None

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(self.FEATURES)
        return self.dataset_info_from_configs(features=features, supervised_keys=self.SUPERVISED)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split: str) -> Any:  # type: ignore[override]
        for i in range(SIZES[split]):
            yield i, {key: self.value(key, split, i) for key in self.FEATURES}

    def value(self, key: str, split: str, i: int) -> Any:
        if key.startswith("image"):
            return encoded(picture(split, i)[:, :, 0] if (split, i) == ("test", 2) else picture(split, i))
        return i if key == "index" else i % 2


class TinyNamed(_Tiny):
    FEATURES = {  # noqa: RUF012
        "index": np.int64,
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
    }
    SUPERVISED = ("image", "label")


class TinyUnnamed(_Tiny):
    FEATURES = {  # noqa: RUF012
        "image_of_it": tfds.features.Image(shape=(4, 6, 3)),
        "kind": tfds.features.ClassLabel(num_classes=2),
    }


class TinyFaces(_Tiny):
    """As CelebA: no class, attributes in a dictionary of their own."""

    FEATURES = {  # noqa: RUF012
        "image": tfds.features.Image(shape=(4, 6, 3)),
        "attributes": {"Smiling": np.bool_, "Young": np.bool_},
        "landmarks": {"nose_x": np.int64},
    }

    def value(self, key: str, split: str, i: int) -> Any:
        inner = {"attributes": {"Smiling": i % 2 == 1, "Young": i < 2}, "landmarks": {"nose_x": 3}}
        return inner[key] if key in inner else encoded(picture(split, i))


class TinyPair(_Tiny):
    FEATURES = {  # noqa: RUF012
        "image_left": tfds.features.Image(shape=(4, 6, 3)),
        "image_right": tfds.features.Image(shape=(4, 6, 3)),
        "label": tfds.features.ClassLabel(num_classes=2),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    place = tmp_path_factory.mktemp("tfds")
    for builder in (TinyNamed, TinyUnnamed, TinyPair, TinyFaces):
        builder(data_dir=str(place)).download_and_prepare(file_format="array_record")
    return place


def config(folder: pathlib.Path) -> Config:
    data: Config = get_config().data
    data.dir = str(folder)
    return data


def copied(folder: pathlib.Path, to: pathlib.Path, name: str = "tiny_named") -> pathlib.Path:
    """A copy of a prepared set, to be spoilt."""
    place = to / name / "1.0.0"
    place.mkdir(parents=True)
    for path in (folder / name / "1.0.0").iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


def test_splits_labels_and_pixels_of_a_prepared_set(folder: pathlib.Path) -> None:
    source = load_source("tiny_named", config(folder))
    assert source.name == "tiny_named"
    assert source.label_names == ("cat", "dog")
    assert {split: records.num_records for split, records in source.splits.items()} == SIZES
    for split, size in SIZES.items():
        records = source.splits[split]
        assert records.name(1) == f"{split}[1]"
        rows = [records.read(i) for i in range(size)]
        first = {int(np.asarray(image)[0, 0, 0]): (np.asarray(image), label) for image, label in rows}
        for i in range(size):  # the set is shuffled when it is written
            wanted = picture(split, i)
            image, label = first[wanted[0, 0, 0]]
            if (split, i) == ("test", 2):  # a gray file in a set that is declared RGB
                wanted = np.repeat(wanted[:, :, :1], 3, axis=2)
            np.testing.assert_array_equal(image, wanted)
            assert label == i % 2


def test_versions_and_features_that_are_not_called_image_and_label(folder: pathlib.Path) -> None:
    source = load_source("tiny_unnamed:1.*.*", config(folder))
    assert source.label_names == ("0", "1")
    assert np.asarray(source.splits["train"].read(0)[0]).shape == (4, 6, 3)
    with pytest.raises(RunError, match=r"tfds:tiny_unnamed:2.0.0 is not there: .* \(there is tiny_unnamed/1.0.0\)"):
        load_source("tiny_unnamed:2.0.0", config(folder))


def test_a_set_of_another_kind_is_refused_with_what_it_holds(folder: pathlib.Path) -> None:
    with pytest.raises(RunError, match="holds image_left: Image, image_right: Image, label: ClassLabel"):
        load_source("tiny_pair", config(folder))


def test_an_attribute_is_the_label(folder: pathlib.Path) -> None:
    data = config(folder)
    assert attributes("tiny_faces", data) == ["Smiling", "Young"] and attributes("tiny_named", data) == []
    for attribute, truth in (("Smiling", lambda i: i % 2 == 1), ("Young", lambda i: i < 2)):
        data.attribute = attribute
        source = load_source("tiny_faces", data)
        assert source.label_names == (f"not {attribute}", attribute)
        rows = [source.splits["train"].read(i) for i in range(SIZES["train"])]
        found = {int(np.asarray(image)[0, 0, 0]): label for image, label in rows}
        assert found == {int(picture("train", i)[0, 0, 0]): int(truth(i)) for i in range(SIZES["train"])}
    data.attribute = "Smilling"
    with pytest.raises(
        UsageError, match=r"unknown attribute \(config.data.attribute\) 'Smilling'; did you mean 'Smiling'"
    ):
        load_source("tiny_faces", data)
    data.attribute = ""
    with pytest.raises(RunError, match=r"set config.data.attribute to one of its 2, such as 'Smiling'"):
        load_source("tiny_faces", data)


def test_reading_from_threads_gives_the_same(folder: pathlib.Path) -> None:
    records = load_source("tiny_named", config(folder)).splits["train"]
    alone = [np.asarray(records.read(i)[0]) for i in range(5)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: np.asarray(records.read(i % 5)[0]), range(40)))
    for i, image in enumerate(together):
        np.testing.assert_array_equal(image, alone[i % 5])


def test_the_fingerprint_follows_the_files(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    place = copied(folder, tmp_path)
    before = load_source("tiny_named", config(tmp_path)).fingerprint
    assert load_source("tiny_named", config(tmp_path)).fingerprint == before
    shard = next(place.glob("*train.array_record*"))
    os.utime(shard, ns=(1, 1))
    assert load_source("tiny_named", config(tmp_path)).fingerprint != before
    shard.unlink()
    with pytest.raises(RunError, match=f"{shard.name} of the prepared set is missing"):
        load_source("tiny_named", config(tmp_path))


def test_damaged_files_are_said_to_be(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    place = copied(folder, tmp_path)
    shard = next(place.glob("*train.array_record*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ValueError, match="its ArrayRecord file is damaged"):
        load_source("tiny_named", config(tmp_path)).splits["train"].read(0)
    (place / "dataset_info.json").write_text('{"name":')
    with pytest.raises(RunError, match=r"cannot read the prepared set in .*tiny_named .*prepare it again"):
        load_source("tiny_named", config(tmp_path))


def test_a_set_in_tfrecord_does_not_count(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    place = copied(folder, tmp_path)
    info = json.loads((place / "dataset_info.json").read_text())
    (place / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    (tmp_path / "beans").symlink_to(tmp_path / "tiny_named")
    with pytest.raises(RunError, match=r"no ArrayRecord set in .*beans \(there is beans/1.0.0\); run 'python run.py"):
        load_source("beans", config(tmp_path))


def test_an_unknown_name_is_a_usage_error_with_the_nearest(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="unknown tensorflow-datasets set 'mnits'; did you mean 'mnist'"):
        load_source("mnits", config(tmp_path))


def test_a_set_that_is_not_there_says_what_where_and_how(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RunError) as caught:
        load_source("cmaterdb/bangla:1.0.0", config(tmp_path))
    assert "\n" not in str(caught.value)
    assert f"no ArrayRecord set in {tmp_path}/cmaterdb;" in str(caught.value)
    assert "run 'python run.py prepare tfds:cmaterdb/bangla:1.0.0'" in str(caught.value)


def test_raw_files_stand_in_and_their_absence_is_explained(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "answering", lambda urls: [])
    with pytest.raises(RunError) as caught:
        load_source("mnist", config(tmp_path))
    for part in (
        f"no ArrayRecord set in {tmp_path}/mnist",
        f"no raw files (train-images-idx3-ubyte.gz and 3 more) in {tmp_path}/mnist, {tmp_path} or ",
        "no answer from storage.googleapis.com, ossci-datasets.s3.amazonaws.com",
        "run 'python run.py prepare tfds:mnist'",
    ):
        assert part in str(caught.value)
    wanted = Source("mnist", (), {}, "raw")
    monkeypatch.setattr(raw, "load_source", lambda name, folder: wanted)
    assert load_source("mnist", config(tmp_path)) is wanted


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("mnist", Name("mnist", None, None)),
        ("mnist:3.0.1", Name("mnist", None, "3.0.1")),
        ("cmaterdb/bangla:1.*.*", Name("cmaterdb", "bangla", "1.*.*")),
        ("imagenet_resized/8x8", Name("imagenet_resized", "8x8", None)),
    ],
)
def test_names(text: str, parsed: Name) -> None:
    assert parse_name(text) == parsed
    assert str(parsed) == f"tfds:{text}"


@pytest.mark.parametrize("text", ["", "huggingface:mnist", "mnist:3", "../mnist", "mnist/", "a b", "--debug"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(UsageError, match="is not of the form tfds:NAME"):
        parse_name(text)


def test_the_folder_is_the_configs_then_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("TFDS_DATA_DIR", "/sets")
    assert data_folder("~/mine") == pathlib.Path("/home/me/mine")
    assert data_folder(None) == pathlib.Path("/sets")
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert data_folder(None) == pathlib.Path("/home/me/tensorflow_datasets")


def test_reading_in_order_fetches_blocks_and_at_random_single_records() -> None:
    asked: list[list[int]] = []

    def fetch(indices: Sequence[int]) -> Sequence[bytes]:
        asked.append(list(indices))
        return [b"%d" % i for i in indices]

    read = read_blocks(fetch, 1000, 1000)
    assert [read(i) for i in range(1000)] == [b"%d" % i for i in range(1000)]
    assert [len(indices) for indices in asked] == [1, 512, 1, 488]
    asked.clear()
    read = read_blocks(fetch, 10**6, 10**6)
    order = np.random.default_rng(0).permutation(10**6)[:50].tolist()
    assert [read(i) for i in order] == [b"%d" % i for i in order]
    assert sum(map(len, asked)) < 50 * 50
    asked.clear()
    read = read_blocks(fetch, 10, 10 * 2**20)  # a MiB each: nothing to gain
    assert [read(i) for i in range(10)] == [b"%d" % i for i in range(10)]
    assert [len(indices) for indices in asked] == [1] * 10


def test_one_damaged_record_does_not_spoil_its_block() -> None:
    def fetch(indices: Sequence[int]) -> Sequence[bytes]:
        if 3 in indices:
            raise ValueError("damaged")
        return [b"%d" % i for i in indices]

    read = read_blocks(fetch, 100, 100)
    assert [read(i) for i in (0, 1, 2, 4)] == [b"0", b"1", b"2", b"4"]
    with pytest.raises(ValueError, match="damaged"):
        read(3)


def test_tensorflow_is_never_imported(folder: pathlib.Path) -> None:
    code = f"""
import importlib.machinery, sys
class Loader:
    def create_module(self, spec): raise AssertionError("TensorFlow is imported")
    def exec_module(self, module): pass
class Finder:  # TensorFlow as if it were installed, so that whoever would use it where it is there is caught too
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, Loader()) if name.split(".")[0] == "tensorflow" else None
sys.meta_path.insert(0, Finder())
from cnnjax.data.tfds import check_known, load_source, parse_name
from experiments.default import get_config
data = get_config().data
data.dir = {str(folder)!r}
source = load_source("tiny_named", data)
print([source.splits["train"].read(i)[0].size for i in range(5)][0])
check_known(parse_name("mnist"))
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(6, 4)\n"


@functools.cache
def real(name: str) -> Any:
    if not os.environ.get("TFDS_DATA_DIR"):
        pytest.skip("needs the real sets: TFDS_DATA_DIR is not set")
    return load_source(name, get_config().data)


@pytest.mark.parametrize(
    ("name", "sizes", "shape", "first_label", "first_name"),
    [
        ("mnist", {"train": 60000, "test": 10000}, (28, 28), 4, "0"),
        ("cifar10", {"train": 50000, "test": 10000}, (32, 32, 3), 7, "airplane"),
    ],
)
def test_the_real_sets(
    name: str, sizes: dict[str, int], shape: tuple[int, ...], first_label: int, first_name: str
) -> None:
    source = real(name)
    assert {split: records.num_records for split, records in source.splits.items()} == sizes
    assert len(source.label_names) == 10
    assert source.label_names[0] == first_name
    image, label = source.splits["train"].read(0)
    assert np.asarray(image).shape == shape
    assert label == first_label
