# SPDX-License-Identifier: Apache-2.0
"""The folder on this machine that stands for a remote workdir, and what is known of its last exchange with it.

CACHE/remote/KEY/NAME   the files of the run, as in any workdir
CACHE/remote/KEY/stage.json   which content of which file the store was last seen to hold
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from filelock import FileLock

from cnnjax.errors import RunError
from cnnjax.remote.store import Content, content_of
from cnnjax.report.environment import write_json

CHECKPOINTS, DAMAGED = "checkpoints", "damaged"  # folders of every run, as `cnnjax.checkpoint` makes them


class Stage:
    """The stage of a URL.

    Attributes:
      url: the remote workdir.
      folder: the local one.
      id: of this stage, kept with it: tells whether a run was last continued here.
      known: by path, (content, version) of what the store holds, as last exchanged; of a checkpoint its `total`.
    """

    def __init__(self, url: str):
        """Opens the stage, which is made if need be.

        Raises:
          RunError: the user's cache folder cannot be written.
        """
        from cnnjax.data.cache import cache_dir

        self.url = url.rstrip("/")
        try:
            self.home = cache_dir() / "remote" / hashlib.sha256(self.url.encode()).hexdigest()[:16]
            self.folder = self.home / PurePosixPath(self.url).name
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError) as error:
            raise RunError(f"cannot make a folder to work in for {url}: {error}; set CNNJAX_CACHE_DIR") from error
        self.trains = FileLock(self.home / "training.lock", timeout=0)
        self.fetches = FileLock(self.home / "fetching.lock")
        self._file = self.home / "stage.json"
        self.id, self.known = uuid.uuid4().hex, {}
        try:
            told = json.loads(self._file.read_text())
            self.id = str(told["id"])
            self.known = {path: (Content(*each[0]), str(each[1])) for path, each in told["known"].items()}
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            self.save()  # a new stage: nothing in it counts as sent

    def save(self) -> None:
        """Writes down what is known."""
        write_json(self._file, {"url": self.url, "id": self.id, "known": self.known})

    def files(self) -> dict[str, Path]:
        """The files that are no part of a checkpoint, by path; none that is still being written."""
        return {path: file for path, file, checkpoint in self._walk() if checkpoint is None}

    def checkpoints(self) -> list[str]:
        """The paths of the complete checkpoints ("checkpoints/100", "member0/checkpoints/100"), by step."""
        found = {checkpoint for *_, checkpoint in self._walk() if checkpoint is not None}
        return sorted(found, key=lambda path: (int(PurePosixPath(path).name), path))

    def manifest(self, checkpoint: str, home: Path | None = None) -> dict[str, Content]:
        """The content of each file of a checkpoint, by path below it.

        Raises:
          FileNotFoundError: it is being removed.
        """
        folder = (home or self.folder) / checkpoint
        return {file.relative_to(folder).as_posix(): content_of(file) for file in _files(folder)}

    def hold(self, checkpoint: str) -> Path:
        """A place with the files of a checkpoint that stay when the run removes it; `release` gives them up.

        Raises:
          FileNotFoundError: it is being removed already.
        """
        self.release(checkpoint)
        place, folder = self.home / "outgoing", self.folder / checkpoint
        files = _files(folder)
        for file in files:
            target = place / checkpoint / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(file, target)
        if not files or _files(folder) != files:  # else a part of it would pass for the whole
            self.release(checkpoint)
            raise FileNotFoundError(folder)
        return place

    def release(self, checkpoint: str) -> None:
        """Ends what `hold` began."""
        shutil.rmtree(self.home / "outgoing" / checkpoint, ignore_errors=True)

    def unsent(self) -> list[str]:
        """The checkpoints that the store was never seen to hold."""
        return [c for c in self.checkpoints() if self.known.get(c, ("",))[0] != total(self.manifest(c))]

    def set_aside(self) -> Path:
        """Renames the folder and begins an empty one; the place of the old one."""
        place = self.home / f"{self.folder.name}.unsent-{time.strftime('%Y%m%d-%H%M%S')}"
        self.folder.rename(place)
        self.folder.mkdir()
        self.known = {}
        self.save()
        return place

    def _walk(self) -> Iterator[tuple[str, Path, str | None]]:
        """(path, file, its checkpoint or None) of every file that counts."""
        for place, below, names in os.walk(self.folder):
            here = Path(place).relative_to(self.folder)
            if here.name == CHECKPOINTS:  # a step gets its name when it is complete
                for step in [name for name in below if name.isdigit()]:
                    checkpoint = (here / step).as_posix()
                    yield checkpoint, Path(place) / step, checkpoint
                below.clear()
                continue
            below[:] = sorted(name for name in below if not name.startswith(".") and name != DAMAGED)
            for name in sorted(names):
                if not name.startswith(".") and not name.endswith(".tmp"):
                    yield (here / name).as_posix(), Path(place) / name, None


def total(manifest: dict[str, Content]) -> Content:
    """One Content that stands for those of all files of a checkpoint."""
    text = json.dumps(sorted(manifest.items()))
    return Content(sum(content.size for content in manifest.values()), hashlib.sha256(text.encode()).hexdigest())


def _files(folder: Path) -> list[Path]:
    return sorted(Path(place) / name for place, _, names in os.walk(folder) for name in names)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copy2(source, target)
