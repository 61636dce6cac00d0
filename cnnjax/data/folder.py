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

import numpy as np

from cnnjax.data.carve import VALIDATION_NAMES, WHOLE
from cnnjax.data.images import read_picture
from cnnjax.data.stored import Files
from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.types import Config, Records, Source

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


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
    splits = {path.name: path for path in _folders(root, root) if path.name in names and _folders(path, root)}
    files = {split: _files_by_label(path, root) for split, path in (splits or {WHOLE: root}).items()}
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
        for path in (path for paths in by_label.values() for path in paths):
            status = path.stat() if path.exists() else path.lstat()
            entry = f"{split}/{path.parent.name}/{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0"
            digest.update(entry.encode("utf-8", "surrogateescape"))
    records = {split: _records(root, by_label, label_names) for split, by_label in files.items()}
    return Source(root.name or "folder", label_names, records, f"folder-1 {digest.hexdigest()}")


def _records(root: pathlib.Path, by_label: dict[str, list[pathlib.Path]], label_names: tuple[str, ...]) -> Records:
    label = np.repeat([label_names.index(name) for name in by_label], [len(paths) for paths in by_label.values()])
    names = (os.path.relpath(path, root) for paths in by_label.values() for path in paths)
    files = Files(str(root), names, label)
    return Records(len(label), lambda i: (read_picture(files.path(i)), int(label[i])), files.name, files)


def _files_by_label(folder: pathlib.Path, root: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Sorted pictures of each label folder, in the order of the labels."""
    by_label = {}
    for label in _folders(folder, root):
        paths = [path for path in _visible(label, root) if path.suffix.lower() in EXTENSIONS and not path.is_dir()]
        if not paths:
            raise RunError(f"{_shown(label)} holds no pictures; add some (png, jpg, ...) or remove the folder")
        by_label[label.name] = paths
    return by_label


def _folders(folder: pathlib.Path, root: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in _visible(folder, root) if path.is_dir()]


def _visible(folder: pathlib.Path, root: pathlib.Path) -> list[pathlib.Path]:
    """What lies in `folder`, sorted by name; hidden entries and those that are neither file nor folder left out."""
    paths = []
    with os.scandir(folder) as entries:
        for entry in entries:
            path = pathlib.Path(entry.path)
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                if not pathlib.Path(os.path.realpath(path)).is_relative_to(root):  # Path.resolve fails on circles
                    raise RunError(f"{_shown(path)} is a link out of {_shown(root)}; put a copy there in its place")
                if path.is_dir() or path.is_file() or not path.exists():  # a broken link is an unreadable picture
                    paths.append(path)
            elif entry.is_dir() or entry.is_file():  # a pipe would be waited for
                paths.append(path)
    return sorted(paths, key=lambda path: path.name)


def _shown(path: pathlib.Path | str) -> str:
    """The path with what would break a line, or not print, escaped."""
    return repr(str(path))[1:-1]
