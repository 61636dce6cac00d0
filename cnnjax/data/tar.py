# SPDX-License-Identifier: Apache-2.0
"""Shards of pictures in tar files, as WebDataset writes them, read at random: their members are looked up once.

DIR holds SPLIT*.tar, or SPLIT/*.tar, with SPLIT one of train, test, validation, val or valid (or what
config.data.train_split and test_split say) before a "-", "_", "." or digit; other names are one split to be carved.
A picture KEY.jpg (or png, ...) has its label in KEY.cls, a number, beside it, or else is in the folder of its
label. DIR/classes.txt may name the classes of numbers, a line each. Compressed tar files are refused: nothing in
them can be read at random.
"""

import hashlib
import io
import json
import os
import pathlib
import re
import tarfile
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from cnnjax.data import cache
from cnnjax.data.carve import VALIDATION_NAMES, WHOLE
from cnnjax.data.folder import EXTENSIONS
from cnnjax.data.images import read_picture
from cnnjax.errors import RunError, UsageError
from cnnjax.types import Config, Records, Source, Split

_MOST_CLASSES = 100_000
_LONGEST_LABEL = 20  # characters of a .cls file
_BLOCK = 512  # bytes of a tar header


class Members:
    """Pictures inside tar files by number.

    Args:
      paths: of the files.
      place: [N,3] int64: which file, where in it, how many bytes.
      label: [N] int32.
    """

    mode = ""

    def __init__(self, paths: list[str], place: np.ndarray, label: np.ndarray):
        self._paths, self._place, self._label = paths, place, label
        self._begin()

    def _begin(self) -> None:
        self._files: dict[int, int] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_paths": self._paths, "_place": self._place, "_label": self._label}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __del__(self) -> None:
        for number in self._files.values():
            os.close(number)

    def labels(self) -> np.ndarray:
        """[N] int32."""
        return self._label

    def read(self, i: int) -> bytes:
        """The file of picture `i`."""
        shard, start, size = self._place[i].tolist()
        found = os.pread(self._file(shard), size, start)
        if len(found) != size:
            raise ValueError("the tar file ends before it")
        return found

    def name(self, i: int) -> str:
        """The tar file, and the member's name as its header has it (100 characters at most)."""
        shard, start, _ = self._place[i].tolist()
        try:
            header = os.pread(self._file(shard), 100, start - _BLOCK).split(b"\0")[0]
        except OSError:
            header = b"?"
        return repr(f"{self._paths[shard]}/{os.fsdecode(header)}")[1:-1]

    def _file(self, shard: int) -> int:
        with self._lock:
            if shard not in self._files:
                self._files[shard] = os.open(self._paths[shard], os.O_RDONLY)
            return self._files[shard]


def load_source(name: str, data: Config) -> Source:
    """The pictures in the tar files of a folder; what is found in them is kept in the cache.

    Args:
      name: DIR.
      data: config.data; reads train_split and test_split.

    Raises:
      UsageError: there is no such folder, or it has no tar files.
      RunError: a tar file is damaged or compressed, or a picture has no label.
    """
    folder = pathlib.Path(name).expanduser().absolute()
    paths = sorted([*folder.glob("*.tar"), *folder.glob("*/*.tar")])
    if not paths:
        raise UsageError(f"no tar files in {folder}; set config.data.source=tar:DIR to a folder of SPLIT-*.tar")
    known = {"train", "test", *VALIDATION_NAMES, data.train_split.partition("[")[0], data.test_split.partition("[")[0]}
    by_split: dict[str, list[pathlib.Path]] = {}
    for path in paths:
        by_split.setdefault(_split(path, folder, known), []).append(path)
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    found = {split: _kept(files, f"{digest.hexdigest()} {split}") for split, files in by_split.items()}
    names, numbers = _classes(folder, sorted({word for each in found.values() for word in each.words}))
    splits = {}
    for split, each in found.items():
        label = np.array([numbers[word] for word in each.words], np.int32)[each.label]
        splits[split] = _records(Members([str(path) for path in by_split[split]], each.place, label))
    return Source(folder.name, names, splits, f"tar-1 {digest.hexdigest()} {names}")


class _Found(NamedTuple):
    """The pictures of some tar files."""

    place: np.ndarray  # [N,3] int64, as for Members
    label: np.ndarray  # [N] int32, which of the words
    words: list[str]  # what .cls files hold, or folders are called


def _split(path: pathlib.Path, folder: pathlib.Path, known: set[str]) -> str:
    """What split a tar file belongs to: by its own name, or by its folder's."""
    words = [re.split(r"[-_.\d]", path.name)[0], *([path.parent.name] if path.parent != folder else [])]
    return next((word for word in words if word in known), WHOLE)


def _records(members: Members) -> Records:
    def read(i: int) -> tuple[Any, int]:
        return read_picture(io.BytesIO(members.read(i))), int(members.labels()[i])

    return Records(len(members.labels()), read, members.name, members)


def _classes(folder: pathlib.Path, words: list[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The names of the classes, and the class that each of the sorted words means."""
    path = folder / "classes.txt"
    named = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if not all(word.isdecimal() and int(word) < _MOST_CLASSES for word in words):
        return tuple(words), {word: number for number, word in enumerate(words)}
    numbers = {word: int(word) for word in words}
    count = max(numbers.values()) + 1
    if named and len(named) < count:
        raise RunError(f"{path} names {len(named)} classes, but there is a label {count - 1}; add a line for each")
    return tuple(named) or tuple(map(str, range(max(count, 2)))), numbers


def _kept(paths: list[pathlib.Path], what: str) -> _Found:
    """`_scan`, out of the cache where it is there."""
    keys = [cache.cache_key(f"tar-1 {part}", what) for part in ("places", "words")]
    places, words = (cache.load(key) for key in keys)
    if places is not None and words is not None:
        return _Found(places.image, places.label, json.loads(words.image.tobytes()))
    found = _scan(paths)
    cache.store(keys[0], Split(found.place, found.label))
    cache.store(keys[1], Split(np.frombuffer(json.dumps(found.words).encode(), np.uint8), np.empty(0, np.int32)))
    return found


def _scan(paths: list[pathlib.Path]) -> _Found:
    from tqdm import tqdm

    place, label, numbers = [], [], {}
    for shard, path in enumerate(tqdm(paths, desc="tar files", unit="file", delay=2, disable=None)):
        for name, start, size, word in _pictures(path):
            if word is None:
                raise RunError(f"{path}/{name} has no label: put NAME.cls beside it, or it into its label's folder")
            place.append((shard, start, size))
            label.append(numbers.setdefault(word, len(numbers)))
    if not place:
        raise RunError(f"the tar files in {paths[0].parent} hold no pictures (png, jpg, ...)")
    return _Found(np.array(place, np.int64), np.array(label, np.int32), list(numbers))


def _pictures(path: pathlib.Path) -> Iterator[tuple[str, int, int, str | None]]:
    """(name, start, bytes, label) of the pictures of one tar file; links and whatever else is no file are left out."""
    pictures: list[tuple[str, str, int, int]] = []
    labels: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                folder, _, file = member.name.rpartition("/")
                key, _, ending = file.partition(".")
                if not member.isreg() or file.startswith("."):
                    continue
                if ending == "cls":
                    content: Any = shard.extractfile(member)
                    labels[f"{folder}/{key}"] = content.read(_LONGEST_LABEL).decode("ascii").strip()
                elif f".{ending.rpartition('.')[2].lower()}" in EXTENSIONS:
                    pictures.append((member.name, f"{folder}/{key}", member.offset_data, member.size))
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise RunError(f"cannot read {path} ({error}); it must be a whole tar file that is not compressed") from error
    for name, key, start, size in pictures:
        parent = pathlib.PurePosixPath(name).parent.name
        yield name, start, size, labels.get(key, parent or None)
