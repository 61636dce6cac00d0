# SPDX-License-Identifier: Apache-2.0
"""The objects below a URL, by their paths from there; what fails for the moment is tried again."""

import contextlib
import hashlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from cnnjax.errors import RunError, UsageError
from cnnjax.remote.trouble import Vanished, explained, is_transient, not_installed, unreachable

logger = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds in which a request is tried again; the libraries' own attempts come on top
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 16.0  # seconds between attempts; doubled each time
_WHOLE = 64 * 2**20  # bytes up to which a file is read at once, so that what is sent is what its checksum is of
_LONG_PAUSE = 4.0  # the one that is told: whoever waits wants to know for what
_AT_ONCE = 8  # transfers
_VERSIONS = ("generation", "ETag", "etag", "md5Hash", "created", "mtime", "LastModified")
_T = TypeVar("_T")
_S = TypeVar("_S")


class Entry(NamedTuple):
    """What a listing tells of an object: its size in bytes, and text that changes when it is replaced."""

    size: int
    version: str


class Content(NamedTuple):
    """What identifies a file's content: its size in bytes and its SHA-256, hexadecimal."""

    size: int
    sha256: str


class Store:
    """The objects below `url`. Every method may be called from any thread.

    A request that fails for the moment is tried again. Every method raises Unreachable, a RunError, when that did not
    help for `patience` seconds, and RunError at once for what waiting does not mend.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE):
        """Connects to nothing yet.

        Raises:
          UsageError: the scheme is not known, or its package is not installed.
        """
        import fsspec

        self.url, self._patience = url.rstrip("/"), patience
        # Another process may change what was listed before.
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if self.url.startswith("file://"):
            options["auto_mkdir"] = True
        try:
            self._fs, root = fsspec.url_to_fs(self.url, **options)
        except ImportError as error:
            raise not_installed(error, self.url) from error
        except ValueError as error:
            raise UsageError(
                f"{self.url} cannot be opened: {error}; gs://BUCKET/RUN and s3://BUCKET/RUN can"
            ) from error
        except Exception as error:
            raise explained(error, self.url) from error
        self._root = str(root).rstrip("/")

    def list(self, below: str = "") -> dict[str, Entry]:
        """The objects below the folder `below` (""; all), by path.

        Raises:
          RunError: the bucket is not there or may not be read, or an object's path would leave a folder.
        """

        def find() -> dict[str, Any]:
            try:
                return self._fs.find(self._path(below), detail=True)
            except FileNotFoundError:
                if self.url.startswith("file://"):
                    return {}
                raise

        found = {}
        for name, info in self._patiently(find).items():
            path = str(name).removeprefix(self._root).lstrip("/")
            if ".." in PurePosixPath(path).parts or "\\" in path:
                raise RunError(f"{self.url} holds an object named {path!r}, which is no file of a run: remove it")
            if path and info.get("type") != "directory":
                found[path] = Entry(int(info["size"]), _version(info))
        return found

    def read(self, path: str) -> bytes | None:
        """The content of an object; None when there is none."""

        def cat() -> bytes | None:
            try:
                return self._fs.cat_file(self._path(path))
            except FileNotFoundError:
                return None

        return self._patiently(cat)

    def write(self, path: str, content: bytes, *, exclusive: bool = False) -> None:
        """Replaces an object, whole or not at all.

        Raises:
          FileExistsError: with `exclusive`, it is there already, with other content.
        """
        mode = "create" if exclusive else "overwrite"
        try:
            self._patiently(lambda: self._fs.pipe_file(self._path(path), content, mode=mode))
        except FileExistsError:
            if self.read(path) != content:  # else an attempt that seemed to fail had not
                raise

    def send(self, file: Path, path: str) -> Content:
        """Copies a file there; its content as it was sent.

        Raises:
          FileNotFoundError: there is no such file (any more).
        """
        if file.stat().st_size <= _WHOLE:
            content = file.read_bytes()
            self.write(path, content)
            return Content(len(content), hashlib.sha256(content).hexdigest())
        told = content_of(file)  # files so large are parts of checkpoints, which do not change
        self._patiently(lambda: self._fs.put_file(str(file), self._path(path)))
        return told

    def fetch(self, path: str, file: Path) -> Content:
        """Copies an object here: the file is there whole or not at all.

        Raises:
          Vanished: there is no such object (any more).
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.part")

        def get() -> None:
            try:
                self._fs.get_file(self._path(path), str(part))
            except FileNotFoundError as error:
                raise Vanished(f"{self.url}/{path} is not there any more; run the command again") from error

        try:
            self._patiently(get)
            told = content_of(part)
            part.replace(file)
            return told
        finally:
            part.unlink(missing_ok=True)

    def delete(self, path: str) -> None:
        """Removes an object, if it is there."""

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(path))

        self._patiently(remove)

    def version(self, path: str) -> str:
        """The version of an object, as `list` tells it; "" when there is none."""

        def info() -> str:
            try:
                return _version(self._fs.info(self._path(path)))
            except FileNotFoundError:
                return ""

        return self._patiently(info)

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _patiently(self, request: Callable[[], _T]) -> _T:
        """Tries again after growing pauses while it may help, for `patience` seconds."""
        deadline, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while True:
            try:
                return request()
            except (RunError, FileExistsError):
                raise
            except Exception as error:
                if not is_transient(error):
                    raise explained(error, self.url) from error
                if time.monotonic() + pause > deadline:
                    raise unreachable(error, self.url) from error
                if pause == _LONG_PAUSE:
                    logger.info("no answer from %s yet (%s); trying on", self.url, type(error).__name__)
            time.sleep(pause * random.uniform(0.5, 1.0))  # several processes do not come back at one moment
            pause = min(2 * pause, _LONGEST_PAUSE)


def _version(info: dict[str, Any]) -> str:
    return next((str(info[key]) for key in _VERSIONS if info.get(key)), "")


def several(work: Callable[[_S], _T], items: Iterable[_S]) -> Iterator[_T]:
    """`map`, with some transfers at once; the first error ends it."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="transfer") as pool:
        yield from pool.map(work, items)


def content_of(file: Path) -> Content:
    """The Content of a file."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return Content(stream.tell(), digest.hexdigest())
