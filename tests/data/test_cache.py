# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import numpy as np
import pytest

from cnnjax.data.cache import cache_dir, cache_key, load, store
from cnnjax.types import Split


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def make_split(seed: int = 0, num_examples: int = 10) -> Split:
    image = np.random.default_rng(seed).integers(0, 256, (num_examples, 4, 4, 1), np.uint8)
    return Split(image, np.arange(num_examples, dtype=np.int32))


def test_cache_dir(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("CNNJAX_CACHE_DIR", "~/own")
    assert cache_dir() == Path("/home/someone/own")
    monkeypatch.delenv("CNNJAX_CACHE_DIR")
    assert cache_dir() == Path("/xdg/cnnjax")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_dir() == Path("/home/someone/.cache/cnnjax")


def test_hit_equals_what_was_stored(folder: Path):
    split = make_split()
    assert load("k") is None
    store("k", split)
    loaded = load("k")
    assert loaded is not None
    np.testing.assert_array_equal(loaded.image, split.image)
    np.testing.assert_array_equal(loaded.label, split.label)
    assert (loaded.image.dtype, loaded.label.dtype) == (np.uint8, np.int32)
    assert sorted(path.name for path in folder.iterdir()) == ["k"]


def test_keys_tell_parts_apart():
    keys = {cache_key("ab", "c"), cache_key("a", "bc"), cache_key("abc"), cache_key("abc", ""), cache_key("\udcff")}
    assert len(keys) == 5
    assert cache_key("a", b"b") == cache_key("a", "b")


@pytest.mark.parametrize("name", ["image.npy", "label.npy", "checksum"])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "remove"])
def test_a_damaged_entry_is_no_hit_and_is_replaced(folder: Path, name: str, damage: str):
    store("k", make_split())
    file = folder / "k" / name
    content = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        file.write_bytes({"cut": content[:-3], "flip": flipped, "empty": b""}[damage])
    assert load("k") is None
    store("k", make_split())
    assert load("k") is not None


def test_an_entry_that_another_process_made_stays(folder: Path):
    store("k", make_split(0))
    store("k", make_split(1))
    loaded = load("k")
    assert loaded is not None
    np.testing.assert_array_equal(loaded.image, make_split(0).image)
    assert sorted(path.name for path in folder.iterdir()) == ["k"]


def test_the_least_recently_used_makes_room(folder: Path):
    split = make_split(num_examples=1000)  # 16,000 + 4,000 bytes, and some 300 of headers and checksum
    for age, key in enumerate(["new", "older", "oldest"]):
        store(key, split)
        os.utime(folder / key, (1e9 - age, 1e9 - age))
    assert load("oldest") is not None  # which makes it the most recently used
    store("more", split, max_bytes=65_000)
    assert sorted(path.name for path in folder.iterdir()) == ["more", "new", "oldest"]
    store("huge", split, max_bytes=19_999)
    assert load("huge") is None


def test_leftovers_are_removed_when_old(folder: Path):
    for name, age in [(".young", 0), (".old", 2 * 24 * 3600)]:
        (folder / name).mkdir(parents=True)
        (folder / name / "image.npy").write_bytes(b"part")
        used = (folder / name).stat().st_mtime - age
        os.utime(folder / name, (used, used))
    store("k", make_split())
    assert sorted(path.name for path in folder.iterdir()) == [".young", "k"]


def test_trouble_is_silent(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    store("k", make_split())
    assert list(folder.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "file"))
    store("k", make_split())
    assert load("k") is None


def test_a_cache_that_may_only_be_read_serves(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    store("k", make_split())
    with monkeypatch.context() as context:
        context.setattr(os, "utime", refuse)
        assert load("k") is not None
    monkeypatch.setattr(Path, "is_dir", refuse)
    assert load("k") is None


def test_no_home_is_no_cache(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CNNJAX_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "~no-such-user")
    with pytest.raises(RuntimeError):
        cache_dir()
    store("k", make_split())
    assert load("k") is None
