# SPDX-License-Identifier: Apache-2.0
"""Bringing a stage up to date with its store."""

import logging
import shutil

from cnnjax.errors import RunError
from cnnjax.remote import commits as committed
from cnnjax.remote.commits import Commit
from cnnjax.remote.stage import Stage, total
from cnnjax.remote.store import Content, Entry, Store, content_of, several
from cnnjax.remote.trouble import Vanished
from cnnjax.report.table import format_bytes

logger = logging.getLogger(__name__)

_ATTEMPTS = 3  # when a run that goes on removes what is being fetched


def fetch(store: Store, stage: Stage, which: str | None, trained_by: str | None) -> dict[str, Commit]:
    """Fetches the plain files that the stage lacks, and the checkpoints `which` (as of `commits.chosen`).

    When the run was trained last in this very stage (`trained_by` is its id), what lies there is as new as what the
    store holds, or newer: it stays. Otherwise the store's files replace what differs, by checksum; work that was never
    sent is moved aside first.

    Returns:
      The committed checkpoints of the store.

    Raises:
      RunError: the store cannot be used, or every checkpoint to choose from is damaged.
      UsageError: there is no such checkpoint.
    """
    for attempt in range(_ATTEMPTS):
        listed = store.list()
        commits = committed.read(store, listed)
        try:
            _fetch(store, stage, committed.plain(listed), commits, which, ours=trained_by == stage.id)
            return commits
        except Vanished:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("not reached")


def _fetch(
    store: Store, stage: Stage, listed: dict[str, Entry], commits: dict[str, Commit], which: str | None, *, ours: bool
) -> None:
    wanted = committed.chosen(commits, which)
    if not ours:
        _make_way(stage, listed, commits)
    here = stage.files()
    missing = [path for path in listed if path not in here or not (ours or _is_same(stage, path, listed[path]))]
    if ours:
        for checkpoint in stage.checkpoints():
            if checkpoint in commits and stage.manifest(checkpoint).items() < commits[checkpoint].files.items():
                shutil.rmtree(stage.folder / checkpoint)  # the run was killed while it removed it
        wanted = [each for each in wanted if not _is_behind(stage, each[0])]
    places = [c for each in wanted for c in each[:1] if not _is_whole(stage, c, commits[c])]
    size = sum(listed[path].size for path in missing) + sum(commits[c].size for c in places)
    if missing or places:
        logger.info("fetching %s from %s", format_bytes(size), stage.url)
    for path, content in zip(missing, several(lambda p: store.fetch(p, stage.folder / p), missing), strict=True):
        stage.known[path] = content, listed[path].version
    stage.save()
    for candidates in wanted:
        if not any(_fetch_checkpoint(store, stage, c, commits[c]) for c in candidates):
            raise RunError(f"every checkpoint of {stage.url} that was asked for is damaged (listed above)")


def _make_way(stage: Stage, listed: dict[str, Entry], commits: dict[str, Commit]) -> None:
    """Takes out of the stage what the store does not hold any more."""
    stale = [c for c in stage.checkpoints() if c not in commits or stage.manifest(c) != commits[c].files]
    if set(stale).intersection(stage.unsent()):
        place = stage.set_aside()
        logger.warning(
            "%s was trained elsewhere, or removed, since it was trained here: it goes on from what it holds now; "
            "checkpoints that were never sent there are kept in %s",
            stage.url,
            place,
        )
        return
    for checkpoint in stale:
        shutil.rmtree(stage.folder / checkpoint)
        stage.known.pop(checkpoint, None)
    for path, file in stage.files().items():
        if path in stage.known and path not in listed:
            file.unlink()
            del stage.known[path]


def _is_same(stage: Stage, path: str, entry: Entry) -> bool:
    """Whether neither side of a file changed since it was last exchanged."""
    content, version = stage.known.get(path, (None, ""))
    return content is not None and version == entry.version and content == content_of(stage.folder / path)


def _is_behind(stage: Stage, checkpoint: str) -> bool:
    """Whether the stage has this checkpoint of a run or a later one, so that it knows better than the store."""
    run, _, step = checkpoint.rpartition("/")
    own = [c.rpartition("/") for c in stage.checkpoints()]
    return any(folder == run and int(name) >= int(step) for folder, _, name in own)


def _is_whole(stage: Stage, checkpoint: str, commit: Commit) -> bool:
    return (stage.folder / checkpoint).is_dir() and stage.manifest(checkpoint) == commit.files


def _fetch_checkpoint(store: Store, stage: Stage, checkpoint: str, commit: Commit) -> bool:
    """Whether the checkpoint is in the stage now; a warning when what was fetched is not what was committed."""
    if _is_whole(stage, checkpoint, commit):
        return True
    place = stage.home / "incoming" / checkpoint
    shutil.rmtree(place, ignore_errors=True)

    def get(file: str) -> Content:
        return store.fetch(f"{checkpoint}/{file}", place / file)

    fetched = dict(zip(commit.files, several(get, commit.files), strict=True))
    changed = [file for file, content in commit.files.items() if fetched[file] != content]
    if changed:
        logger.warning(
            "%s/%s is damaged: %s is not what was sent; it is passed over", stage.url, checkpoint, changed[0]
        )
        shutil.rmtree(place)
        return False
    target = stage.folder / checkpoint
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    place.rename(target)
    stage.known[checkpoint] = total(commit.files), ""
    stage.save()
    return True
