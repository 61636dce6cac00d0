# SPDX-License-Identifier: Apache-2.0
"""Decoded splits on disk, so that the second run does not decode again.

An entry is a folder data/KEY of the user's cache folder: image.npy, label.npy and their checksum. It is
written under another name and renamed when complete. The cache is only ever a help: whatever goes wrong with
it (a full disk, a file cut short, no permission) is logged for debugging, and the caller decodes.
"""

import contextlib
import hashlib
import logging
import os
import pathlib
import shutil
import tempfile
import time
import zlib

import numpy as np

from cnnjax.types import Split

MAX_BYTES = 8 * 2**30
"""Most that all entries take together; the least recently used ones make room."""

_VERSION = "1"  # of this layout and of what decoding means: raise it when either changes
_STALE_SECONDS = 24 * 3600  # an unfinished entry so old was left by a process that was killed

logger = logging.getLogger(__name__)


def cache_dir() -> pathlib.Path:
    """The user's cache folder: $CNNJAX_CACHE_DIR, else $XDG_CACHE_HOME/cnnjax, else ~/.cache/cnnjax; not created.

    Raises:
      RuntimeError: neither variable is set, and the user has no home folder, as in some containers.
    """
    own = os.environ.get("CNNJAX_CACHE_DIR")
    if own:
        return pathlib.Path(own).expanduser()
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cnnjax"


def cache_key(*parts: str | bytes) -> str:
    """The name of an entry, 32 hexadecimal digits: everything that decides its pixels goes in."""
    digest = hashlib.sha256(_VERSION.encode())
    for part in parts:
        part = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(len(part).to_bytes(8, "little") + part)  # the length keeps ("ab", "c") from ("a", "bc")
    return digest.hexdigest()[:32]


def load(key: str) -> Split | None:
    """The split stored under `key`, or None when there is none, or none that is whole."""
    try:
        entry = cache_dir() / "data" / key
        if not entry.is_dir():
            return None
    except (OSError, RuntimeError) as error:
        logger.debug("no cache: %s", error)
        return None
    try:
        image, label = np.load(entry / "image.npy"), np.load(entry / "label.npy")
        if (entry / "checksum").read_text() != _checksum(image, label):
            raise ValueError("the checksum does not match")
        with contextlib.suppress(OSError):  # a cache that may only be read serves as well
            os.utime(entry)  # marks it as used
        return Split(image, label)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        logger.debug("cache entry %s is not usable: %s", entry, error)
        shutil.rmtree(entry, ignore_errors=True)
        return None


def store(key: str, split: Split, max_bytes: int = MAX_BYTES) -> None:
    """Stores a split unless it is larger than `max_bytes`, and drops old entries beyond that bound."""
    size = split.image.nbytes + split.label.nbytes
    if size > max_bytes:
        return
    unfinished = None
    try:
        folder = cache_dir() / "data"
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder, max_bytes - size)
        unfinished = pathlib.Path(tempfile.mkdtemp(prefix=".", dir=folder))
        np.save(unfinished / "image.npy", split.image)
        np.save(unfinished / "label.npy", split.label)
        (unfinished / "checksum").write_text(_checksum(*split))
        unfinished.replace(folder / key)
    except (OSError, ValueError, RuntimeError) as error:
        logger.debug("cannot store %s in the cache: %s", key, error)
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def _checksum(image: np.ndarray, label: np.ndarray) -> str:
    return " ".join(f"{a.dtype}{a.shape}{zlib.crc32(np.ascontiguousarray(a).data):08x}" for a in (image, label))


def _make_room(folder: pathlib.Path, max_bytes: int) -> None:
    """Drops what killed processes left, and the least recently used entries beyond `max_bytes`."""
    entries = []
    for entry in folder.iterdir():
        used = entry.stat().st_mtime
        if not entry.name.startswith("."):
            entries.append((used, entry))
        elif time.time() - used > _STALE_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)
    total = 0
    for _, entry in sorted(entries, reverse=True):
        total += sum(file.stat().st_size for file in entry.iterdir())
        if total > max_bytes:
            shutil.rmtree(entry, ignore_errors=True)
