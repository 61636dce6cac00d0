# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import load_dataset
from cnnjax.data.folder import load_source
from cnnjax.errors import CnnjaxError, RunError, UsageError
from cnnjax.types import Config, Source


def names(source: Source, split: str) -> list[str]:
    return [source.splits[split].name(i) for i in range(source.splits[split].num_records)]


def test_labels_without_splits(data: Config, make_folder: Callable[..., Path]):
    folder = make_folder({"dog": 2, "cat": 3, "eel": 1})
    source = load_source(str(folder), data)
    assert (source.name, source.label_names) == ("set", ("cat", "dog", "eel"))
    expected = ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "eel/0.png"]
    assert names(source, "all") == [str(folder / name) for name in expected]
    picture, label = source.splits["all"].read(3)
    assert (np.asarray(picture)[0, 0, 0], label) == (0, 1)


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_splits_and_labels(data: Config, make_folder: Callable[..., Path], validation: str):
    counts = {"train/a": 3, "train/b": 2, f"{validation}/b": 1, "test/a": 2, "unused/other": 1, "train/.hidden": 1}
    folder = make_folder(counts)
    source = load_source(str(folder), data)
    assert source.label_names == ("a", "b")
    assert {split: records.num_records for split, records in source.splits.items()} == {
        "train": 5,
        validation: 1,
        "test": 2,
    }
    assert source.splits[validation].read(0)[1] == 1


def test_splits_that_the_config_names(data: Config, make_folder: Callable[..., Path]):
    data.train_split, data.test_split = "big[:50%]", "unseen"
    data.source = f"folder:{make_folder({'big/a': 2, 'big/b': 2, 'unseen/a': 1})}"
    data.validation_fraction = 0.0
    assert {name: len(split.label) for name, split in load_dataset(data).splits.items()} == {"train": 2, "test": 1}


def test_a_label_may_be_called_train(data: Config, make_folder: Callable[..., Path]):
    source = load_source(str(make_folder({"car": 1, "train": 1})), data)
    assert source.label_names == ("car", "train")
    assert list(source.splits) == ["all"]


def test_only_pictures_count(data: Config, make_folder: Callable[..., Path]):
    folder = make_folder({"a": 1, "b": 1})
    (folder / "notes.txt").write_text("x")
    for name in (".DS_Store", ".x.png", "notes.txt", "Thumbs.db", "noextension"):
        (folder / "a" / name).write_text("x")
    (folder / "a" / "deeper.png").mkdir()
    os.mkfifo(folder / "a" / "pipe.png")
    Image.new("L", (3, 3)).save(folder / "a" / "UPPER.JPG")
    assert [Path(name).name for name in names(load_source(str(folder), data), "all")] == ["0.png", "UPPER.JPG", "0.png"]


def test_home_and_relative_paths(data: Config, make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    folder = make_folder({"a": 1, "b": 1})
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.chdir(folder.parent)
    for name in ("~/set", "set", "./set/", str(folder)):
        assert load_source(name, data).fingerprint == load_source(str(folder), data).fingerprint
    with pytest.raises(UsageError, match=r"no folder .*/~no-such-user/set"):
        load_source("~no-such-user/set", data)


def test_fingerprint_follows_the_files(data: Config, make_folder: Callable[..., Path]):
    folder = make_folder({"a": 2, "b": 1})
    seen = {load_source(str(folder), data).fingerprint}
    os.utime(folder / "a" / "0.png", ns=(1, 1))
    seen.add(load_source(str(folder), data).fingerprint)
    (folder / "a" / "1.png").rename(folder / "a" / "2.png")
    seen.add(load_source(str(folder), data).fingerprint)
    (folder / "a" / "2.png").unlink()
    seen.add(load_source(str(folder), data).fingerprint)
    assert len(seen) == 4


def test_links_inside_are_followed_and_links_out_refused(data: Config, make_folder: Callable[..., Path]):
    folder, other = make_folder({"a": 1, "b": 1}), make_folder({"c": 1}, root="other")
    (folder / "a" / "again.png").symlink_to(folder / "b" / "0.png")
    (folder / "a" / "broken.png").symlink_to(folder / "b" / "gone.png")
    source = load_source(str(folder), data)
    assert source.splits["all"].num_records == 4
    with pytest.raises(OSError, match="No such file"):
        source.splits["all"].read(2)
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert load_source(str(link), data).fingerprint == source.fingerprint
    for where, target in [(folder / "a" / "out.png", other / "c" / "0.png"), (folder / "c", other / "c")]:
        where.symlink_to(target)
        with pytest.raises(RunError, match="link out of"):
            load_source(str(folder), data)
        where.unlink()


def test_a_link_in_a_circle_is_no_crash(data: Config, make_folder: Callable[..., Path]):
    folder = make_folder({"a": 1, "b": 1})
    (folder / "b" / "round.png").symlink_to("round.png")
    with pytest.raises((CnnjaxError, OSError)) as caught:
        load_source(str(folder), data).splits["all"].read(2)
    assert "\n" not in str(caught.value)


def test_a_folder_that_may_not_be_read(data: Config, make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(RunError, match=r"cannot read .*/set: Permission denied"):
        load_source(str(make_folder({"a": 1})), data)


def test_names_that_do_not_print(data: Config, make_folder: Callable[..., Path]):
    folder = make_folder({"a": 1, "b": 1})
    (folder / "a" / "0.png").rename(folder / "a" / "new\nline\udcff.png")
    source = load_source(str(folder), data)
    assert names(source, "all")[0].endswith(r"a/new\nline\udcff.png")
    assert source.splits["all"].read(0)[1] == 0


@pytest.mark.parametrize(
    ("counts", "error", "words"),
    [
        (None, UsageError, "no folder .*set; set config.data.source"),
        ({}, RunError, "no folders of labels"),
        ({"a": 3}, RunError, "only the label folder 'a'"),
        ({"a": 3, "b": 0}, RunError, "set/b holds no pictures"),
        ({"train/a": 3, "train/b": 0}, RunError, "train/b holds no pictures"),
        ({"train/a": 3, "train/b": 1, "test/aa": 1}, RunError, "split 'test'.*unknown label 'aa'; did you mean 'a'"),
    ],
)
def test_errors(data: Config, make_folder: Callable[..., Path], counts: dict | None, error: type, words: str):
    folder = make_folder(counts or {})
    if counts is not None:
        folder.mkdir(exist_ok=True)
    with pytest.raises(error, match=words) as caught:
        load_source(str(folder), data)
    assert "\n" not in str(caught.value)
