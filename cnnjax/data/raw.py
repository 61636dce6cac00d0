# SPDX-License-Identifier: Apache-2.0
"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 from the publishers' own files.

The files are looked for where the user may have put them, else downloaded into the user's cache folder. What is
downloaded is verified. What is found need only be sound, so that a set cut down or relabelled can be read; IDX files
that are not the published ones are remarked on, and those of another set, whose names are the same, are refused.
"""

import hashlib
import logging
import pathlib
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cnnjax.data import download
from cnnjax.data.cache import cache_dir
from cnnjax.data.published import SETS, RawSet
from cnnjax.data.rawformats import damaged, parse_cifar, parse_idx, read_bytes, read_tar
from cnnjax.errors import RunError
from cnnjax.types import Records, Source

logger = logging.getLogger(__name__)

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
"""(image uint8 [N,H,W] or [N,H,W,C], label uint8 [N]) by split."""


def load_source(name: str, folder: pathlib.Path) -> Source | None:
    """A set from raw files on this machine; they are read when the first record is.

    Args:
      name: one of SETS.
      folder: where the user keeps data: files may lie in it, in its subfolder `name`, or as torchvision lays them out.

    Returns:
      The source, with splits "train" and "test"; None when the files are not there.
    """
    raw = SETS[name]
    for place in places(name, folder):
        if paths := _found(raw, place):
            logger.info("%s: the publisher's files in %s", name, place)
            return _source(name, raw, paths)
    return None


def download_source(name: str) -> Source:
    """Downloads a set's raw files into the cache folder, those that are not there yet.

    Raises:
      RunError: no mirror answers, within seconds; or what comes is not the published file.
    """
    raw, place = SETS[name], _cache(name)
    urls = download.answering([url + raw.files[0].name for url in raw.urls])
    if not urls:
        raise RunError(f"no answer from {', '.join(map(download.host, raw.urls))}")
    bases = [url.removesuffix(raw.files[0].name) for url in urls]
    missing = [file for file in raw.files if not (place / file.name).is_file()]
    size = sum(file.size for file in missing) / 1e6
    logger.info("%s: downloading %.0f MB from %s to %s", name, size, download.host(bases[0]), place)
    for file in missing:
        download.fetch([base + file.name for base in bases], place / file.name, file.size, file.sha256)
    return _source(name, raw, [place / file.name for file in raw.files])


def places(name: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """Where raw files of a set are looked for, in this order."""
    above = (folder / name, folder)
    return [*above, *(each / below for each in above for below in SETS[name].folders), _cache(name)]


def lacking(name: str, folder: pathlib.Path) -> str:
    """What is missing, as a part of a sentence: the files, where they were looked for, and what lies there instead."""
    raw = SETS[name]
    others = len(raw.files) - 1
    wanted = f"{raw.files[0].name}{f' and {others} more' if others else ''}"
    text = f"no raw files ({wanted}) in {folder / name}, {folder} or {_cache(name)}"
    for place in places(name, folder):
        pickled = [place / each for each in raw.pickled if (place / each).exists()]
        if pickled:
            return f"{text} ({pickled[0]} is the Python version, which is pickled and not read: the binary one is)"
        found = [path.name for path in _unpacked(raw, place) if path]
        if found:
            return f"{text} (in {place} there is only {', '.join(found)})"
    return text


def _cache(name: str) -> pathlib.Path:
    return cache_dir() / "raw" / name


def _unpacked(raw: RawSet, place: pathlib.Path) -> list[pathlib.Path | None]:
    """Each file of `raw.splits` in a folder, None where it is not there.

    It may be packed by gzip, or have the dot in its name that some programs unpack IDX files with.
    """
    names = [name for names in raw.splits.values() for name in names]
    candidates = [[place / each for each in (name, f"{name}.gz", name.replace("-idx", ".idx"))] for name in names]
    return [next((path for path in paths if path.is_file()), None) for paths in candidates]


def _found(raw: RawSet, place: pathlib.Path) -> list[pathlib.Path]:
    """All files of a set in one folder, unpacked or as they are published; [] unless it is complete."""
    unpacked = [path for path in _unpacked(raw, place) if path]
    if len(unpacked) == sum(map(len, raw.splits.values())):
        return unpacked
    packed = [place / file.name for file in raw.files]
    return packed if all(path.is_file() for path in packed) else []


def _source(name: str, raw: RawSet, paths: Sequence[pathlib.Path]) -> Source:
    statuses = [path.stat() for path in paths]
    digest = hashlib.sha256()
    for path, status in zip(paths, statuses, strict=True):
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    published = [status.st_size for status in statuses] == [file.size for file in raw.files]
    arrays = _once(lambda: _read(raw, paths, raw.sizes if published else {}))
    # Files of the published sizes are read when the first record is: with the decoded set in the cache, never.
    sizes = raw.sizes if published else {split: len(label) for split, (_, label) in arrays().items()}
    records = {split: _records(arrays, split, size) for split, size in sizes.items()}
    return Source(name, raw.label_names, records, f"raw-1 {digest.hexdigest()}")


def _once(make: Callable[[], Arrays]) -> Callable[[], Arrays]:
    """`make`, called at most once, however many threads ask."""
    lock, made = threading.Lock(), []

    def get() -> Arrays:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return get


def _records(arrays: Callable[[], Arrays], split: str, size: int) -> Records:
    def read(i: int) -> tuple[np.ndarray, int]:
        image, label = arrays()[split]
        return image[i], int(label[i])

    return Records(size, read, lambda i: f"{split}[{i}]")


def _read(raw: RawSet, paths: Sequence[pathlib.Path], sizes: Mapping[str, int]) -> Arrays:
    """Parses all files of a set; `sizes` are the numbers of pictures there must be."""
    arrays = (_read_idx if raw.files[0].md5 else _read_cifar)(raw, paths)
    for split, (image, label) in arrays.items():
        if len(image) != len(label):
            raise damaged(paths[0], f"has {len(image)} {split} pictures, but there are {len(label)} labels")
        if len(image) != sizes.get(split, len(image)):
            raise damaged(paths[0], f"has {len(image)} {split} pictures, not {sizes[split]}")
        if label.max() >= len(raw.label_names):
            place = f"label {label.max()} at {split}[{label.argmax()}]"
            raise damaged(paths[0].parent, f"has {place}, outside 0..{len(raw.label_names) - 1}")
    return arrays


def _read_idx(raw: RawSet, paths: Sequence[pathlib.Path]) -> Arrays:
    arrays = {}
    for i, split in enumerate(raw.splits):
        image, label = (_checked_idx(raw, 2 * i + j, paths[2 * i + j]) for j in (0, 1))
        arrays[split] = parse_idx(paths[2 * i], image, 3), parse_idx(paths[2 * i + 1], label, 1)
    return arrays


def _checked_idx(raw: RawSet, number: int, path: pathlib.Path) -> bytes:
    """File `number` of a set, which must not be another set's."""
    data = read_bytes(path)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 != raw.files[number].md5:
        for other, each in SETS.items():
            if each is not raw and md5 in (file.md5 for file in each.files):
                raise RunError(f"{path} is a file of {other}; keep each set in a folder of its own name")
        logger.warning("%s is not the published file; it is used as it is", path)
    return data


def _read_cifar(raw: RawSet, paths: Sequence[pathlib.Path]) -> Arrays:
    names = [name for names in raw.splits.values() for name in names]
    label_bytes = 2 if len(raw.label_names) > 10 else 1  # CIFAR-100 has the coarse label before the fine one
    if len(paths) < len(names):  # the archive
        members = read_tar(paths[0], names)
        files = {name: (paths[0] / name, members[name]) for name in names}
    else:
        files = {name: (path, read_bytes(path)) for name, path in zip(names, paths, strict=True)}
    parsed = {name: parse_cifar(path, data, label_bytes) for name, (path, data) in files.items()}
    arrays = {}
    for split, batches in raw.splits.items():
        image, label = zip(*(parsed[name] for name in batches), strict=True)
        arrays[split] = np.concatenate(image), np.concatenate(label)
    return arrays
