# SPDX-License-Identifier: Apache-2.0
"""Folders of pictures: PATH/SPLIT/LABEL/* or PATH/LABEL/*, in sorted order.

PATH/SPLIT/LABEL/* is taken to be meant when PATH has a folder called train, test, validation, val or valid
(or what config.data.train_split and test_split say) that holds folders itself; other folders beside those are
left alone. Otherwise each folder of PATH is a label, and the splits are carved.

Pictures are the regular files with an extension of EXTENSIONS, in either case, directly in a label's folder.
Hidden files and folders are ignored. A link within PATH is followed while it stays inside PATH; one that leads
out is an error, so that a folder from a stranger cannot pull other pictures into a data set unseen. PATH itself
may be a link.
"""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from cnnjax.data.carve import VALIDATION_NAMES, WHOLE
from cnnjax.data.images import read_picture
from cnnjax.data.stored import Files
from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.types import Config, Records, Source

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_ENDINGS = tuple(EXTENSIONS)


def load_source(name: str, data: Config) -> Source:
    """The pictures below a folder; only their names, sizes and times are read here.

    Args:
      name: PATH; "~" is the home folder, a relative one starts from the current folder.
      data: config.data; reads train_split and test_split.

    Returns:
      A source with the folder's splits, or one split "all"; labels are sorted by name.

    Raises:
      UsageError: there is no such folder.
      RunError: it has fewer than two labels, a label without pictures, a label in one split that the training
        split lacks, or a link that leads out of it; or it may not be read.
    """
    root = pathlib.Path(name)
    with contextlib.suppress(RuntimeError):  # "~someone" whom the machine does not know
        root = root.expanduser()
    if not root.is_dir():
        raise UsageError(f"no folder {_shown(root.absolute())}; set config.data.source=folder:PATH to one that exists")
    try:
        return _load(root.resolve(), data)
    except OSError as error:
        raise RunError(f"cannot read {_shown(error.filename)}: {error.strerror}; check its permissions") from error


def _load(root: pathlib.Path, data: Config) -> Source:
    train = data.train_split.partition("[")[0]
    names = {"train", "test", *VALIDATION_NAMES, train, data.test_split.partition("[")[0]}
    splits = {name: name for name in _folders(root, root) if name in names and _folders(root / name, root)}
    splits = splits or {WHOLE: ""}
    files = {split: _files_by_label(root / below, root) for split, below in splits.items()}
    known = files[train] if train in files else next(iter(files.values()))
    label_names = tuple(sorted(known))
    if len(label_names) < 2:
        found = f"only the label folder {label_names[0]!r}" if label_names else "no folders of labels"
        raise RunError(f"{_shown(root)} has {found}; lay pictures out as PATH/LABEL/* or PATH/SPLIT/LABEL/*")
    for split, by_label in files.items():
        for label in by_label:
            if label not in known:
                sentence = unknown("label", label, label_names)
                raise RunError(f"split {split!r} of {_shown(root)}: {sentence}; rename its folder, or add it to train")
    digest = hashlib.sha256()
    for split, by_label in files.items():
        for path, (label, name) in zip(_paths(splits[split], by_label), _pairs(by_label), strict=True):
            status = _status(os.path.join(root, path))  # noqa: PTH118, called for every picture
            entry = f"{split}/{label}/{name}\0{status.st_size}\0{status.st_mtime_ns}\0"
            digest.update(entry.encode("utf-8", "surrogateescape"))
    records = {split: _records(root, splits[split], by_label, label_names) for split, by_label in files.items()}
    return Source(root.name or "folder", label_names, records, f"folder-1 {digest.hexdigest()}")


def _records(root: pathlib.Path, below: str, by_label: dict[str, list[str]], label_names: tuple[str, ...]) -> Records:
    numbers = np.asarray([label_names.index(name) for name in by_label], np.int32)
    label = np.repeat(numbers, [len(names) for names in by_label.values()])
    files = Files(str(root), _paths(below, by_label), label)
    return Records(len(label), lambda i: (read_picture(files.path(i)), int(label[i])), files.name, files)


def _pairs(by_label: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    return ((label, name) for label, names in by_label.items() for name in names)


def _paths(below: str, by_label: dict[str, list[str]]) -> Iterator[str]:
    """From the root, of every picture of a split, one by one: a list of millions would take gigabytes."""
    return (os.path.join(below, label, name) for label, name in _pairs(by_label))  # noqa: PTH118


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)  # noqa: PTH116, called for every picture
    except OSError:  # a broken link, which is an unreadable picture
        return os.lstat(path)


def _files_by_label(folder: pathlib.Path, root: pathlib.Path) -> dict[str, list[str]]:
    """Sorted names of the pictures in each label folder, in the order of the labels."""
    by_label = {}
    for label in _folders(folder, root):
        _, files = _visible(folder / label, root)
        pictures = [name for name in files if name.lower().endswith(_ENDINGS)]
        if not pictures:
            raise RunError(f"{_shown(folder / label)} holds no pictures; add some (png, jpg, ...) or remove the folder")
        by_label[label] = pictures
    return by_label


def _folders(folder: pathlib.Path, root: pathlib.Path) -> list[str]:
    return _visible(folder, root)[0]


def _visible(folder: pathlib.Path, root: pathlib.Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in `folder`, sorted; hidden ones, and what is neither, left out."""
    folders, files = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            link = entry.is_symlink()
            if link and not pathlib.Path(os.path.realpath(entry.path)).is_relative_to(root):  # resolve fails on circles
                shown = _shown(entry.path)
                raise RunError(f"{shown} is a link out of {_shown(root)}; put a copy there in its place")
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file() or (link and not pathlib.Path(entry.path).exists()):  # a pipe would be waited for
                files.append(entry.name)
    return sorted(folders), sorted(files)


def _shown(path: pathlib.Path | str) -> str:
    """The path with what would break a line, or not print, escaped."""
    return repr(str(path))[1:-1]
