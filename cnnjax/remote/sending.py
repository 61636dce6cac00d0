# SPDX-License-Identifier: Apache-2.0
"""Sending what a run completes to its store, from a thread of its own: training never waits for the network."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from cnnjax.errors import RunError
from cnnjax.notes import read_score
from cnnjax.remote import commits as committed
from cnnjax.remote.commits import Commit
from cnnjax.remote.lease import Lease, Succeeded
from cnnjax.remote.stage import Stage, total
from cnnjax.remote.store import Content, Store, content_of, several
from cnnjax.remote.trouble import Unreachable

logger = logging.getLogger(__name__)

LOOK_EVERY = 2.0  # seconds between looks at the folder
PLAIN_EVERY = 30.0  # seconds between sendings of what changes all the time, when no checkpoint is new
LONGEST_PAUSE = 60.0  # seconds between attempts while the store cannot be reached
LAST_WAIT = 300.0  # seconds that the end of a command waits for a store that cannot be reached
_LAST = {"config.json", "members.json"}  # their presence says that the rest of a run's beginning is there
_Mark = tuple[int, int, int]


class Mirror:
    """Makes a store hold what a stage holds: the pass that the thread repeats."""

    def __init__(self, store: Store, stage: Stage, commits: dict[str, Commit], lease: Lease | None = None):
        """`commits`: the store's, as `fetch` returned them; `lease`: asked before anything counts."""
        self._store, self._stage, self._commits, self._lease = store, stage, dict(commits), lease
        self._seen: dict[str, _Mark] = {}  # of each file sent or found equal
        self._sent_at = float("-inf")
        self.bytes = 0  # sent so far

    def clean(self) -> None:
        """Removes from the store the files of checkpoints that were never committed, or half removed.

        Raises:
          RunError: the store cannot be used.
        """
        for _ in several(self._store.delete, committed.orphans(self._store.list(), self._commits)):
            pass

    def send(self, *, everything: bool = False) -> None:
        """One pass: new checkpoints, and what changed besides, when it is time or with `everything`.

        The plain files go first: records of every step up to a checkpoint's are there when it counts.

        Raises:
          RunError: something could not be sent; the next pass takes it up again.
        """
        if self._lease:
            self._lease.check()
        present = self._stage.checkpoints()
        new = self._held([c for c in present if self._changed(c, self._stage.folder / c)])
        if new or everything or time.monotonic() - self._sent_at > PLAIN_EVERY:
            self.send_files()
            self._remove_files()
            self._sent_at = time.monotonic()
        for checkpoint, place, mark in new:
            self._send_checkpoint(checkpoint, place)
            self._seen[checkpoint] = mark
        self._remove([c for c in self._commits if c not in present])

    def missing(self) -> list[str]:
        """What is only local: paths of files, and of checkpoints."""
        files = [path for path, file in self._stage.files().items() if self._changed(path, file)]
        return self._stage.unsent() + [path for path in files if not self._is_known(path)]

    def _held(self, checkpoints: Iterable[str]) -> list[tuple[str, Path, _Mark]]:
        """(checkpoint, a place where the run does not remove it, what it looks like now) of those still there."""
        held = []
        for checkpoint in checkpoints:
            try:
                mark = _mark(self._stage.folder / checkpoint)
                held.append((checkpoint, self._stage.hold(checkpoint), mark))
            except (FileNotFoundError, NotADirectoryError):
                continue  # the run has removed it since
        return held

    def pass_over(self) -> None:
        """Takes the files as they are now for sent."""
        self._seen = {path: _mark(file) for path, file in self._stage.files().items()}

    def send_files(self) -> None:
        """Sends the files that changed and are no part of a checkpoint.

        Raises:
          RunError: one could not be sent.
        """
        changed = [path for path, file in self._stage.files().items() if self._changed(path, file)]
        changed = [path for path in changed if not self._is_known(path)]
        first = [path for path in changed if path.rpartition("/")[2] not in _LAST]
        for paths in (first, [path for path in changed if path not in first]):
            for _ in several(self._send_file, paths):
                pass
        if changed:
            self._stage.save()

    def _remove_files(self) -> None:
        """Removes from the store the files that the run has removed."""
        known, folder = self._stage.known, self._stage.folder
        gone = [path for path in known if not committed.is_checkpoint(path) and not (folder / path).exists()]
        for path in gone:
            self._store.delete(path)
            del known[path]
        if gone:
            self._stage.save()

    def _send_file(self, path: str) -> None:
        file = self._stage.folder / path
        try:
            mark = _mark(file)
            content = self._store.send(file, path)
        except FileNotFoundError:
            return  # a temporary file; or it was replaced, and the next pass finds it
        self._stage.known[path] = content, self._store.version(path)
        self._seen[path] = mark
        self.bytes += content.size

    def _is_known(self, path: str) -> bool:
        """Whether the store holds this very content, which is then noted."""
        if path not in self._stage.known:
            return False
        try:
            file = self._stage.folder / path
            mark = _mark(file)
            if self._stage.known[path][0] != content_of(file):
                return False
        except FileNotFoundError:
            return True  # nothing to send
        self._seen[path] = mark
        return True

    def _send_checkpoint(self, checkpoint: str, place: Path) -> None:
        """Sends the files and then the commit."""
        folder, files = place / checkpoint, self._stage.manifest(checkpoint, place)
        old = self._commits.get(checkpoint)
        if old is None or old.files != files:
            if old is not None:  # saved again: while files are replaced the old ones must not count
                self._store.delete(committed.name(checkpoint))
                del self._commits[checkpoint]
            commit = Commit(files, read_score(folder))

            def send(file: str) -> Content:
                return self._store.send(folder / file, f"{checkpoint}/{file}")

            for _ in several(send, files):
                pass
            if self._lease:
                self._lease.check()
            committed.write(self._store, checkpoint, commit)
            self._commits[checkpoint] = commit
            self.bytes += commit.size
        self._stage.known[checkpoint] = total(files), ""
        self._stage.save()
        self._stage.release(checkpoint)

    def _remove(self, checkpoints: list[str]) -> None:
        """Removes what the run has removed, unless nothing newer counts: first the commit, then the files."""
        for checkpoint in checkpoints:
            if not committed.is_followed(checkpoint, self._commits):
                continue
            self._store.delete(committed.name(checkpoint))
            files = self._commits.pop(checkpoint).files
            for _ in several(self._store.delete, [f"{checkpoint}/{file}" for file in files]):
                pass
            self._stage.known.pop(checkpoint, None)

    def _changed(self, path: str, file: Path) -> bool:
        try:
            return self._seen.get(path) != _mark(file)
        except FileNotFoundError:
            return False


class Sender:
    """The thread that sends, and its end."""

    def __init__(self, mirror: Mirror, stage: Stage, *, look_every: float = LOOK_EVERY):
        self._mirror, self._stage, self._every = mirror, stage, look_every
        self._closing, self._wake = threading.Event(), threading.Event()
        self._error: RunError | None = None  # of the last pass
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def finish(self, wait: float = LAST_WAIT) -> None:
        """Sends what is left and ends.

        Args:
          wait: seconds that a store which cannot be reached has to come back.

        Raises:
          RunError: something is only local.
        """
        self._closing.set()
        self._wake.set()
        deadline = time.monotonic() + wait
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(0.5)
        missing = self._mirror.missing()
        if missing:
            raise RunError(self.told(missing))
        if self._error is not None:
            logger.warning("%s", self._error)  # what the run has removed is still there

    def abandon(self) -> None:
        """Says what is only local; what is being sent now is cut off with the process."""
        if missing := self._mirror.missing():
            logger.warning("%s", self.told(missing))

    def told(self, missing: list[str]) -> str:
        """What is only local, the remedy, and why."""
        names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        why = f" ({self._error})" if self._error else ""
        return f"only in {self._stage.folder}, not in {self._stage.url}: {names}; the same command sends them{why}"

    def _run(self) -> None:
        pause = self._every
        while True:
            closing = self._closing.is_set()
            try:
                self._mirror.send(everything=closing)
                self._well()
                if closing:
                    return
                pause = self._every
            except RunError as error:
                if self._trouble(error) and (closing or self._closing.is_set()):
                    return
                pause = min(2 * pause, LONGEST_PAUSE)
            except Exception as error:  # a bug must not end the sending unseen
                if self._trouble(RunError(f"{type(error).__name__}: {error}")) and closing:
                    return
                pause = min(2 * pause, LONGEST_PAUSE)
            self._wake.wait(pause)
            self._wake.clear()

    def _well(self) -> None:
        if self._error is not None:
            logger.info("%s has caught up", self._stage.url)
        self._error = None

    def _trouble(self, error: RunError) -> bool:
        """Notes an error, the first in a row aloud; whether trying again cannot help."""
        if isinstance(error, Succeeded) and not isinstance(self._error, Succeeded):
            logger.error("%s", error)
            os.kill(os.getpid(), signal.SIGTERM)  # the run saves its state, and ends
        elif self._error is None:
            goes_on = f"training goes on, and what it saves waits in {self._stage.folder}"
            logger.warning("%s. %s", error, goes_on)
        self._error = error
        return not isinstance(error, Unreachable)


def _mark(file: Path) -> _Mark:
    """Inode, size and time: another one means that the file may have changed."""
    told = file.stat()
    return told.st_ino, told.st_size, told.st_mtime_ns
