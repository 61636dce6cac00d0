# SPDX-License-Identifier: Apache-2.0
"""Packs a set into a few large files, and tells what is wrong with it: the writer of `cnnjax.data.pack`."""

import hashlib
import io
import logging
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax.data.checks import Checks
from cnnjax.data.images import read_picture
from cnnjax.data.pack import CHECKS, MANIFEST, UNFINISHED, VERSION, read_manifest
from cnnjax.data.stored import Names
from cnnjax.errors import RunError, UsageError, why
from cnnjax.report.environment import cannot_write, write_json
from cnnjax.types import Source, Stored

SHARD_BYTES = 256 * 2**20
_WINDOW = 64  # pictures in flight for each thread
_EVALUATED_FIRST = ("test", "validation", "val", "valid")  # of copies in several splits these keep theirs

logger = logging.getLogger(__name__)


class _Picture(NamedTuple):
    number: int
    label: int
    content: bytes
    digest: bytes
    unreadable: str


def pack(
    source: Source, out: Path, *, skip: bool = False, drop_copies: bool = False, shard_bytes: int = SHARD_BYTES
) -> Checks | None:
    """Writes a set to a folder, every picture decoded once to see that it can be.

    A pack that was begun from the same source and not finished is begun anew; a finished one is left as it is.

    Args:
      source: whose records are stored in files.
      out: the folder, empty or not there.
      skip: leave unreadable pictures out; else they are an error, after all of them were found.
      drop_copies: leave out what is there already, byte for byte; of copies in two splits that of the test set stays.
      shard_bytes: of a file, roughly.

    Returns:
      What was found; None: it is packed already.

    Raises:
      UsageError: the folder holds something else, or the source cannot be packed.
      RunError: unreadable pictures, or nothing can be written.
    """
    stored = {split: records.stored for split, records in source.splits.items()}
    if any(each is None for each in stored.values()):
        raise UsageError(f"{source.name} has no files of pictures to pack")
    try:
        if not _begin(out, source):
            return None
        checks, shards = _write(source, out, skip=skip, drop_copies=drop_copies, shard_bytes=shard_bytes)
        digest = hashlib.sha256()
        for split in shards:
            digest.update((out / f"{split}.npz").read_bytes())
        splits = {split: shards[split] for split in source.splits if split in shards}
        manifest = {"version": VERSION, "name": source.name, "label_names": source.label_names}
        manifest |= {"fingerprint": digest.hexdigest(), "source_fingerprint": source.fingerprint, "splits": splits}
        write_json(out / MANIFEST, manifest)  # last: its presence says that the pack is whole
        (out / UNFINISHED).unlink()
    except OSError as error:
        raise cannot_write(out, error) from error
    return checks


def _begin(out: Path, source: Source) -> bool:
    """Makes the folder ready; False when the pack of this source is there already."""
    if (out / MANIFEST).is_file():
        if read_manifest(out).get("source_fingerprint") == source.fingerprint:
            return False
        raise UsageError(f"{out} holds the pack of another set, or of this one before it changed; take another --out")
    if (out / UNFINISHED).is_file():
        logger.warning("an unfinished pack is in %s: it is begun anew", out)
        for path in [*out.glob("*-[0-9][0-9][0-9][0-9][0-9].array_record"), *out.glob("*.npz")]:
            path.unlink()
    elif out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; take another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / UNFINISHED, {"name": source.name})
    return True


def _write(
    source: Source, out: Path, *, skip: bool, drop_copies: bool, shard_bytes: int
) -> tuple[Checks, dict[str, list[dict[str, Any]]]]:
    from tqdm import tqdm

    checks, shards, seen = Checks({}, [], [], [], []), {}, {}
    total = sum(records.num_records for records in source.splits.values())
    with tqdm(total=total, desc=f"packing {source.name}", unit="image", disable=None) as bar:
        for split in sorted(source.splits, key=lambda name: (name not in _EVALUATED_FIRST, name)):
            stored: Any = source.splits[split].stored
            writer = _Shards(out, split, shard_bytes)
            for picture in _pictures(stored, source.splits[split].num_records):
                bar.update()
                name = stored.name(picture.number)
                if picture.unreadable:
                    checks.unreadable.append(f"{name} ({picture.unreadable})")
                    continue
                if not 0 <= picture.label < len(source.label_names):
                    raise RunError(
                        f"{name} has label {picture.label}, outside 0..{len(source.label_names) - 1}; mend it"
                    )
                first = seen.setdefault(picture.digest, (split, picture.label, picture.number))
                if first != (split, picture.label, picture.number):
                    pair = (_named(source, first), name)
                    checks.duplicates.append(pair)
                    if first[0] != split:
                        checks.across_splits.append(pair)
                    if first[1] != picture.label:
                        checks.two_labels.append(pair)
                    if drop_copies:
                        continue
                if skip or not checks.unreadable:  # else it is all in vain but for the list
                    writer.add(picture, name)
            shards[split] = writer.close()
            checks.counts[split] = np.bincount(writer.label, minlength=len(source.label_names))
    found = {**checks._asdict(), "counts": {split: count.tolist() for split, count in checks.counts.items()}}
    write_json(out / CHECKS, {**found, "label_names": source.label_names})
    if checks.unreadable and not skip:
        more = f", and {len(checks.unreadable) - 3} more" if len(checks.unreadable) > 3 else ""
        listed = f"{', '.join(checks.unreadable[:3])}{more} (all in {out / CHECKS})"
        raise RunError(
            f"{len(checks.unreadable)} of the pictures cannot be read: {listed}; mend or remove them, or leave them "
            "out with --on_bad_image=skip"
        )
    empty = [split for split, count in checks.counts.items() if not count.sum()]
    for split in empty:
        del shards[split]
    return checks, shards


def _named(source: Source, place: tuple[str, int, int]) -> str:
    return source.splits[place[0]].name(place[2])


def _pictures(stored: Stored, count: int) -> Iterator[_Picture]:
    """All records in order, each decoded by one of several threads to see whether it can be."""
    labels = stored.labels()

    def look(number: int) -> _Picture:
        content = b""
        try:
            content = stored.read(number)
            read_picture(io.BytesIO(content))
            unreadable = ""
        except (OSError, ValueError) as error:
            unreadable = why(error)
        return _Picture(number, int(labels[number]), content, hashlib.sha256(content).digest(), unreadable)

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, count, _WINDOW * threads):  # not all at once: what is read waits in memory
            yield from pool.map(look, range(first, min(first + _WINDOW * threads, count)))


class _Shards:
    """The files of one split, begun one after the other."""

    def __init__(self, out: Path, split: str, shard_bytes: int):
        self._out, self._split, self._shard_bytes = out, split, shard_bytes
        self._names: list[str] = []
        self._crc32: list[int] = []
        self._writer: Any = None
        self._room, self._count = 0, 0
        self._shards: list[dict[str, Any]] = []
        self.label: list[int] = []

    def add(self, picture: _Picture, name: str) -> None:
        """Writes one record."""
        from array_record.python.array_record_module import ArrayRecordWriter

        if self._room <= 0:
            self._finish()
            path = self._out / f"{self._split}-{len(self._shards):05d}.array_record"
            # Pictures are compressed already; a group of one record can be read by itself.
            self._writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
            self._shards.append({"file": path.name})
            self._room, self._count = self._shard_bytes, 0
        self._writer.write(picture.content)
        self._room -= len(picture.content)
        self._count += 1
        self.label.append(picture.label)
        self._crc32.append(zlib.crc32(picture.content))
        self._names.append(name)

    def close(self) -> list[dict[str, Any]]:
        """Writes the index; the shards with their records and bytes."""
        self._finish()
        names = Names.of(self._names)
        index = {"label": np.array(self.label, np.int32), "crc32": np.array(self._crc32, np.uint32)}
        np.savez(self._out / f"{self._split}.npz", **index, names=names.text, ends=names.ends)
        return self._shards

    def _finish(self) -> None:
        from array_record.python.array_record_module import ArrayRecordReader

        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        path = self._out / self._shards[-1]["file"]
        reader = ArrayRecordReader(str(path))  # the writer is silent about a full disk
        if reader.num_records() != self._count:
            raise RunError(f"{path} could not be written: {reader.num_records()} of {self._count} records; make room")
        reader.close()
        with path.open("rb") as file:
            os.fsync(file.fileno())
            size = file.seek(0, os.SEEK_END)
        self._shards[-1] |= {"num_records": self._count, "bytes": size}
