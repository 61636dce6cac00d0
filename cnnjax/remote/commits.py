# SPDX-License-Identifier: Apache-2.0
"""What makes a checkpoint of a remote workdir count: an object, written last, that lists its files."""

import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from cnnjax.errors import UsageError
from cnnjax.remote.stage import CHECKPOINTS
from cnnjax.remote.store import Content, Entry, Store, several

FOLDER = ".remote/commits"
ALL = "all"  # checkpoints, for `chosen`


class Commit(NamedTuple):
    """A complete checkpoint: its files by their paths below it, and the score it was saved with."""

    files: dict[str, Content]
    score: float | None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(content.size for content in self.files.values())


def name(checkpoint: str) -> str:
    """The path of the object that commits a checkpoint."""
    return f"{FOLDER}/{checkpoint}.json"


def write(store: Store, checkpoint: str, commit: Commit) -> None:
    """Commits a checkpoint, all of whose files have been sent.

    Raises:
      RunError: the store cannot be written.
    """
    store.write(name(checkpoint), json.dumps(commit._asdict(), indent=1).encode())


def read(store: Store, listed: Iterable[str]) -> dict[str, Commit]:
    """The committed checkpoints, by path, of a listing of the whole store.

    Raises:
      RunError: the store cannot be read.
    """
    paths = [path for path in listed if path.startswith(f"{FOLDER}/") and path.endswith(".json")]
    found = {}
    for path, text in zip(paths, several(store.read, paths), strict=True):
        checkpoint = path.removeprefix(f"{FOLDER}/").removesuffix(".json")
        try:
            told = json.loads(text or b"")
            files = {str(file): Content(int(size), str(digest)) for file, (size, digest) in told["files"].items()}
            score = told["score"]
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # gone since it was listed, or no commit: the checkpoint does not count
        if not any(".." in PurePosixPath(file).parts or file.startswith("/") for file in files):
            found[checkpoint] = Commit(files, float(score) if isinstance(score, int | float) else None)
    return found


def orphans(listed: Iterable[str], commits: dict[str, Commit]) -> list[str]:
    """The objects of a listing that are files of checkpoints which do not count."""
    kept = {f"{checkpoint}/{file}" for checkpoint, commit in commits.items() for file in commit.files}
    return [path for path in listed if checkpoint_of(path) and path not in kept]


def checkpoint_of(path: str) -> str | None:
    """The checkpoint that an object is a file of, committed or not."""
    parts = path.split("/")
    for i, part in enumerate(parts[:-2]):
        if part == CHECKPOINTS and parts[i + 1].isdigit():
            return "/".join(parts[: i + 2])
    return None


def is_checkpoint(path: str) -> bool:
    """Whether a path is that of a checkpoint as a whole."""
    return checkpoint_of(f"{path}/file") == path


def is_followed(checkpoint: str, commits: Iterable[str]) -> bool:
    """Whether a later checkpoint of the same run counts."""
    run = checkpoint.rpartition("/")[0]
    return any(other.rpartition("/")[0] == run and _step(other) > _step(checkpoint) for other in commits)


def plain(listed: dict[str, Entry]) -> dict[str, Entry]:
    """The objects of a listing that are files by themselves."""
    return {path: entry for path, entry in listed.items() if path[0] != "." and not checkpoint_of(path)}


def chosen(commits: dict[str, Commit], which: str | None) -> list[list[str]]:
    """Of each run, the checkpoints to fetch, the next to try when one is damaged coming after it.

    Args:
      commits: what there is.
      which: "latest", "best", a step, ALL, or None for none.

    Raises:
      UsageError: there is no such step.
    """
    runs: dict[str, list[str]] = {}
    for checkpoint in sorted(commits, key=_step, reverse=True):
        runs.setdefault(checkpoint.rpartition("/")[0], []).append(checkpoint)
    if which is None:
        return []
    if which == ALL:
        return [[checkpoint] for checkpoint in commits]
    if which == "latest":
        return list(runs.values())
    if which == "best":
        return [[max(each, key=lambda c: _rank(commits[c], _step(c)))] for each in runs.values()]
    found = [[c] for each in runs.values() for c in each if str(_step(c)) == which]
    if commits and not found:
        steps = sorted({_step(c) for c in commits})
        raise UsageError(f"no checkpoint {which!r}; there are latest, best and {', '.join(map(str, steps))}")
    return found


def _step(checkpoint: str) -> int:
    return int(checkpoint.rpartition("/")[2])


def _rank(commit: Commit, step: int) -> tuple[float, int]:
    return (float("-inf") if commit.score is None else commit.score, step)
