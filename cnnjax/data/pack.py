# SPDX-License-Identifier: Apache-2.0
"""Packs: pictures as their files hold them, in a few large ArrayRecord files, as `run.py prepare` writes them.

A pack is a folder with

  pack.json                   what it holds; written last, so that a pack without it is unfinished
  SPLIT-00000-of-00004.array_record, ...   one picture's file a record, in the order of the index
  SPLIT.npz                   the index: label int32 [N], crc32 uint32 [N], and the names of the files it was made from
  checks.json                 unreadable pictures, duplicates, classes: what was found while packing
"""

import functools
import io
import json
import pathlib
import re
import zipfile
import zlib
from typing import Any

import numpy as np

from cnnjax.data.images import read_picture
from cnnjax.data.stored import Names, Shards
from cnnjax.errors import RunError, UsageError
from cnnjax.types import Config, Records, Source

MANIFEST, CHECKS, UNFINISHED = "pack.json", "checks.json", "unfinished.json"
VERSION = 1
_FILE = re.compile(r"\w[\w.\-]*")  # of files and splits: nothing that leads out of the folder

_INDEX_BYTES = 8192  # that the index may take for a record: two numbers and the name of a file


class Packed:
    """One split of a pack; worker processes open its files themselves.

    Args:
      folder: of the pack.
      split: its name.
      shards: its files.
    """

    mode = ""

    def __init__(self, folder: pathlib.Path, split: str, shards: Shards):
        self._folder, self._split, self._shards = folder, split, shards

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_split": self._split, "_shards": self._shards}

    def labels(self) -> np.ndarray:
        """[N] int32."""
        return self._label

    def read(self, i: int) -> bytes:
        """The file of picture `i`; raises ValueError when it is not the one that was packed."""
        record = self._shards.read(i)[0]
        if zlib.crc32(record) != self._crc32[i]:
            raise ValueError("its bytes are not those that were packed: the checksum differs")
        return record

    def name(self, i: int) -> str:
        """SPLIT[i] and the file that it was made from."""
        names = Names(self._column("names"), self._column("ends"))
        return f"{self._folder}/{self._split}[{i}] ({repr(names[i])[1:-1]})"

    @functools.cached_property
    def _label(self) -> np.ndarray:
        return self._column("label")

    @functools.cached_property
    def _crc32(self) -> np.ndarray:
        return self._column("crc32")

    def _column(self, name: str) -> np.ndarray:
        path = self._folder / f"{self._split}.npz"
        try:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > _INDEX_BYTES * (1 + len(self._shards)):
                raise ValueError(f"it unpacks to {unpacked:,} bytes")
            with np.load(path, allow_pickle=False) as index:
                column = index[name]
        except Exception as error:  # damage, which the parts of a zip archive tell in many ways
            raise RunError(f"{path} of the pack is damaged or missing ({error}); pack the set again") from error
        if name != "names" and column.shape != (len(self._shards),):
            raise RunError(f"{path} of the pack belongs to other shards; pack the set again")
        return column


def load_source(name: str, data: Config) -> Source:
    """A pack; only its description is read here.

    Args:
      name: DIR.
      data: config.data.

    Raises:
      UsageError: there is no such folder, or it is no pack.
      RunError: the pack is unfinished, damaged, or lacks files.
    """
    del data
    folder = pathlib.Path(name).expanduser().absolute()
    if (folder / UNFINISHED).is_file() and not (folder / MANIFEST).is_file():
        raise RunError(f"the pack in {folder} is unfinished: run the 'run.py prepare' that began it again")
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"{folder} holds no {MANIFEST}; 'run.py prepare --source=folder:PATH --out=DIR' makes a pack")
    manifest = read_manifest(folder)
    splits = {split: _records(folder, split, manifest["splits"][split]) for split in manifest["splits"]}
    return Source(manifest["name"], tuple(manifest["label_names"]), splits, f"pack-{VERSION} {manifest['fingerprint']}")


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """The description of a pack, its form checked.

    Raises:
      RunError: it cannot be read or is not of that form.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["version"]
        shards = [shard for split in manifest["splits"].values() for shard in split]
        names = [
            manifest["name"],
            manifest["fingerprint"],
            *manifest["label_names"],
            *(shard["file"] for shard in shards),
        ]
        numbers = [shard[key] for shard in shards for key in ("num_records", "bytes")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"cannot read {path} ({type(error).__name__}); pack the set again") from error
    if version != VERSION:
        raise RunError(f"{path} is of version {version!r}, this program reads {VERSION}; pack the set again")
    sound = all(isinstance(name, str) for name in names) and all(type(n) is int and n >= 0 for n in numbers)
    files = [shard["file"] for shard in shards] + list(manifest["splits"])
    if not sound or not shards or any(not _FILE.fullmatch(file) for file in files):
        raise RunError(f"{path} is no description of a pack; pack the set again")
    return manifest


def _records(folder: pathlib.Path, split: str, shards: list[dict[str, Any]]) -> Records:
    for shard in shards:
        path = folder / shard["file"]
        size = path.stat().st_size if path.is_file() else -1
        if size != shard["bytes"]:
            what = "is missing" if size < 0 else f"has {size:,} bytes, not the {shard['bytes']:,} that were written"
            raise RunError(f"{path} of the pack {what}; copy it there again, or pack the set again")
    counts = [shard["num_records"] for shard in shards]
    stored = Packed(folder, split, Shards([str(folder / shard["file"]) for shard in shards], counts))

    def read(i: int) -> tuple[Any, int]:
        return read_picture(io.BytesIO(stored.read(i))), int(stored.labels()[i])

    return Records(sum(counts), read, stored.name, stored)
