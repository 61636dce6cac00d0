# SPDX-License-Identifier: Apache-2.0
"""A bucket in memory that fails when it is told to, and a run that is only files."""

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest

from cnnjax.remote.stage import Stage


class Bucket(fsspec.AbstractFileSystem):
    """Objects in a dict, as stores have them: replaced whole, no folders, and created only once where asked."""

    protocol = "bucket"
    objects: ClassVar[dict[str, tuple[bytes, int]]] = {}  # content and generation, by path
    before: ClassVar[Callable[[str, str], None]] = staticmethod(lambda request, path: None)  # may raise
    after: ClassVar[Callable[[str, str], None]] = staticmethod(lambda request, path: None)
    _generation = itertools.count(1)
    _lock = threading.Lock()

    def find(self, path: str, maxdepth: Any = None, withdirs: bool = False, detail: bool = False, **_: Any) -> Any:
        Bucket.before("list", path)
        listed = dict(Bucket.objects)
        return {name: self._told(name, *each) for name, each in listed.items() if f"{name}/".startswith(f"{path}/")}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        Bucket.before("info", path)
        if path not in Bucket.objects:
            raise FileNotFoundError(path)
        return self._told(path, *Bucket.objects[path])

    def _told(self, name: str, content: bytes, generation: int) -> dict[str, Any]:
        return {"name": name, "size": len(content), "type": "file", "generation": generation}

    def cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
        Bucket.before("read", path)
        if path not in Bucket.objects:
            raise FileNotFoundError(path)
        return Bucket.objects[path][0]

    def get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        Path(lpath).write_bytes(self.cat_file(rpath))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        Bucket.before("write", path)
        with Bucket._lock:
            if mode == "create" and path in Bucket.objects:
                raise FileExistsError(path)
            Bucket.objects[path] = bytes(value), next(Bucket._generation)
        Bucket.after("write", path)

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def rm_file(self, path: str) -> None:
        Bucket.before("delete", path)
        if Bucket.objects.pop(path, None) is None:
            raise FileNotFoundError(path)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Bucket]]:
    """The bucket behind bucket:// URLs, empty."""
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    for name, value in (("objects", {}), ("before", Bucket.before), ("after", Bucket.after)):
        monkeypatch.setattr(Bucket, name, staticmethod(value) if callable(value) else value)
    monkeypatch.setattr("cnnjax.remote.store._FIRST_PAUSE", 0.001)
    yield Bucket


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """`machine("a")`: from here on this is machine a, with a cache of its own."""

    def be(name: str) -> None:
        monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / f"cache-{name}"))

    be("a")
    return be


class FakeRun:
    """Writes what a run writes, in its order: records, then the checkpoint; the one before it goes."""

    def __init__(self, stage: Stage, keep: int = 1):
        self.folder, self.keep = stage.folder, keep
        self.write("config.json", "{}")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def step(self, step: int) -> None:
        """One more record, and a checkpoint."""
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(f'{{"step": {step}}}\n')
        unfinished = self.folder / f"checkpoints/{step}.orbax-checkpoint-tmp"
        for name, content in checkpoint(step).items():
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / name).write_bytes(content)
        unfinished.rename(unfinished.with_name(str(step)))
        for old in sorted((self.folder / "checkpoints").iterdir(), key=lambda path: int(path.name))[: -self.keep]:
            for path in sorted(old.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
            old.rmdir()


def checkpoint(step: int) -> dict[str, bytes]:
    """The files of a checkpoint, other ones at every step."""
    return {
        "_CHECKPOINT_METADATA": b'{"custom_metadata": {"score": %d}}' % (10 - step),
        "state/manifest": b"m",
        "state/d/array": bytes([step]) * (1000 + step),
        "state/empty": b"",
    }


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def fake_run() -> type[FakeRun]:
    return FakeRun


@pytest.fixture
def files_of() -> Callable[[Path], dict[str, bytes]]:
    return tree


@pytest.fixture
def checkpoint_files() -> Callable[[int], dict[str, bytes]]:
    return checkpoint
