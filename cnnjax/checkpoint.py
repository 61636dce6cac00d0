# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: Orbax, asynchronous and atomic; the latest and the best are kept; restoring is strict.

Every array is saved with its checksum, and what is read is compared with it: numbers that changed on the disk are
never used silently.
"""

import contextlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import checkpoint_manager
from orbax.checkpoint import v1 as ocp
from orbax.checkpoint._src.futures.signaling_client import ThreadSafeKeyValueSignalingClient

from cnnjax import notes, processes
from cnnjax.checksums import checksums
from cnnjax.errors import RunError
from cnnjax.report.table import format_table
from cnnjax.types import PyTree, TrainState

logger = logging.getLogger(__name__)

FOLDER, DAMAGED = "checkpoints", "damaged"
_ITEM, _CHECKSUMS, _UNLOGGED = "state", "crc32", "unlogged"
_FOR_EVER = 10**9  # seconds; the library looks at the clock, which may be set forward while it saves
_policies = ocp.training.preservation_policies
_decisions = ocp.training.save_decision_policies


class DamagedCheckpoint(RunError):
    """The files of a checkpoint cannot be read, or hold other numbers than were saved."""


class Checkpoints:
    """The checkpoints below `workdir/checkpoints`, one folder a step.

    A step that is still being written is not listed: the folder gets its name when it is complete, so a killed
    process leaves the last complete one as the latest.
    """

    def __init__(self, workdir: Path, *, keep: int | None = None, keep_best: bool = False):
        """Opens them for writing when `keep`, the number of latest steps to keep, is given; else only for reading.

        With `keep_best`, the step that was saved with the highest score is kept besides.
        """
        self.directory = (workdir / FOLDER).resolve()
        self._saving: int | None = None
        self._moved = 0  # damaged steps, when the folder was opened
        self._policy: Any = _policies.LatestN(keep)
        if keep_best:
            self._policy = _policies.AnyPreservationPolicy([self._policy, _TheBest(self.best)])
        self._orbax: Any = None if keep is None else self._open()
        self._scores = {
            step: score for step in self.steps() if (score := notes.read_score(self._folder(step))) is not None
        }

    def _open(self) -> Any:
        """The library's writer, which opens no folder with a step whose notes it cannot read."""
        try:
            return self._writer()
        except RunError:
            damaged = {step: reason for step in self.steps() if (reason := self._unreadable(step))}
            if not damaged:
                raise
            self._moved = len(damaged)
            for step, reason in damaged.items():
                logger.warning("%s", reason)
                self._move_away(step)
            return self._writer()

    def _writer(self) -> Any:
        # The trainer decides when; the library's default skips a save while another is under way.
        always: Any = _decisions.FixedIntervalPolicy(1)
        context = _alone(self.directory)
        context.async_options.timeout_secs = _FOR_EVER
        with _plain_errors(f"cannot use {self.directory} for checkpoints"):
            return ocp.training.Checkpointer(
                str(self.directory),
                context=context,
                save_decision_policy=always,
                preservation_policy=self._policy,
                cleanup_tmp_directories=True,  # what a killed run left half written
            )

    def save(
        self,
        step: int,
        state: TrainState,
        score: float | None = None,
        *,
        unlogged: Sequence[Mapping[str, tuple[float, float]]] = (),
        again: bool = False,
    ) -> None:
        """Starts writing `state`; returns once it may change. A failure shows at the next `save` or `wait`.

        Args:
          step: of the run; one that is there stays as it is.
          state: all of it.
          score: by which the best is chosen, more is better.
          unlogged: (sum, count) by name of each step since the last record of the log.
          again: a step that is there is replaced.
        """
        if not again and step in self.steps():
            return  # a run that stops where it has just saved
        with _plain_errors(f"cannot save a checkpoint in {self.directory}; the last good one is {self._last()}"):
            tree = state._asdict()
            told = {_CHECKSUMS: checksums(tree), _UNLOGGED: list(unlogged), "score": score}
            self._saving = step
            if score is not None:
                self._scores[step] = score
            self._orbax.save_checkpointables_async(
                step, {_ITEM: tree}, overwrite=again, custom_metadata=notes.sealed(told)
            )

    def wait(self) -> None:
        """Returns when everything is written."""
        if self._orbax is None:
            return
        with _plain_errors(f"cannot save a checkpoint in {self.directory}; the last good one is {self._last()}"):
            self._orbax.wait()
            self._saving = None

    def close(self) -> None:
        """Writes what is left and stops the library's threads."""
        if self._orbax is None:
            return
        with _plain_errors(f"cannot save a checkpoint in {self.directory}; the last good one is {self._last()}"):
            self._orbax.close()

    def steps(self) -> list[int]:
        """The complete steps, and the one that is being saved, ascending."""
        saving = set() if self._saving is None else {self._saving}
        return sorted(self._saved() | saving)

    def latest(self) -> int | None:
        """The last complete step, None when there is none."""
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """The step with the highest score (of equals, the last), None when none was saved with one."""
        scored = [step for step in self.steps() if step in self._scores]
        return max(scored, key=lambda step: (self._scores[step], step), default=None)

    def _notes(self, step: int) -> dict[str, Any]:
        """What `save` kept beside the arrays of a step."""
        with _plain_errors(self._damaged(step), DamagedCheckpoint):
            told = notes.read_notes(self._folder(step))
            if not isinstance(told.get(_CHECKSUMS, {}), dict):
                raise ValueError("its checksums cannot be read")
            return told

    def restore_newest(self, like: Mapping[str, PyTree]) -> tuple[int, dict[str, PyTree]] | None:
        """(step, what `restore(like, step)` gives) of the last step that is whole; None when there is none at all.

        A damaged step is passed over with a warning. Where these checkpoints are open for writing its files are moved
        to `workdir/damaged`, so that the run can save the step again.

        Raises:
          RunError: all that there are are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return step, self.restore(like, step)
            except DamagedCheckpoint as error:
                logger.warning("%s", error)
                if self._orbax is not None:
                    self._move_away(step)
                    self._orbax.close()
                    self._orbax = self._open()
        if damaged := len(steps) + self._moved:
            raise RunError(f"every checkpoint in {self.directory} is damaged ({damaged}, listed above); train again")
        return None

    def restore(self, like: Mapping[str, PyTree], step: int) -> dict[str, PyTree]:
        """The parts of the TrainState that `like` names, of step `step`, on the shardings of its leaves.

        Raises:
          DamagedCheckpoint: the files cannot be read, or an array is not the one that was saved.
          RunError: the stored arrays are not those of `like` (a table of the differences is printed).
        """
        stored = self.shapes(step)
        differences = compare(like, {name: stored[name] for name in like if name in stored})
        if differences:
            table = format_table(("array", "checkpoint", "this config"), differences, "lll")
            logger.error("%s", table)
            raise RunError(
                f"checkpoint {step} in {self.directory} holds another network or optimizer: {len(differences)} arrays "
                "differ (listed above); give the config it was made with, or another --workdir"
            )
        context = _alone(self.directory)
        context.pytree.loading.partial_load = True  # evaluation reads no optimizer state
        with _plain_errors(f"cannot read checkpoint {step} in {self.directory}", DamagedCheckpoint), context:
            filled = {name: part for name, part in like.items() if jax.tree.leaves(part)}
            loaded = ocp.load(str(self._folder(step)), filled, checkpointable_name=_ITEM)
        saved = self._notes(step).get(_CHECKSUMS)
        if saved is None:
            logger.warning("checkpoint %d in %s has no checksums, so it is not verified", step, self.directory)
            return {**like, **loaded}
        changed = [path for path, checksum in checksums(loaded).items() if saved.get(path) != checksum]
        if changed:
            more = f" and {len(changed) - 1} more arrays" if len(changed) > 1 else ""
            raise DamagedCheckpoint(f"{self._damaged(step)}: {changed[0]}{more} changed on the disk after it was saved")
        return {**like, **loaded}

    def unlogged(self, step: int) -> list[dict[str, tuple[float, float]]]:
        """What `save` was told of the steps since the last record of the log."""
        if step not in self.steps():
            return []
        rows = self._notes(step).get(_UNLOGGED, [])
        return [{name: (total, count) for name, (total, count) in row.items()} for row in rows]

    def shapes(self, step: int) -> dict[str, PyTree]:
        """The parts of the TrainState that were saved as `step`: leaves have a shape and a dtype, no values.

        Raises:
          DamagedCheckpoint: its description cannot be read.
        """
        with _plain_errors(self._damaged(step), DamagedCheckpoint):
            self._notes(step)
            with _alone(self.directory):
                stored = ocp.checkpointables_metadata(str(self._folder(step))).metadata[_ITEM]
            if stored is None:  # the library's way to say that it could not read it
                raise ValueError("its description cannot be read")
            return dict(stored)

    def _unreadable(self, step: int) -> str:
        try:
            self.shapes(step)
        except DamagedCheckpoint as error:
            return str(error)
        return ""

    def _saved(self) -> set[int]:
        try:
            names = [path.name for path in self.directory.iterdir()]
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise RunError(f"cannot read {self.directory}: {error.strerror}") from error
        return {int(name) for name in names if name.isascii() and name.isdigit()}

    def _folder(self, step: int) -> Path:
        return self.directory / str(step)

    def _damaged(self, step: int) -> str:
        return f"checkpoint {step} in {self.directory} is damaged"

    def _move_away(self, step: int) -> None:
        folder = self.directory.parent / DAMAGED
        place = folder / str(step)
        with _plain_errors(f"cannot move the damaged checkpoint {step} to {place}"):
            folder.mkdir(exist_ok=True)
            shutil.rmtree(place, ignore_errors=True)  # an earlier one of the same step
            self._folder(step).rename(place)

    def _last(self) -> str:
        saved = self._saved()
        return f"step {max(saved)}" if saved else "none yet"


class _TheBest(_policies.PreservationPolicy):
    """Keeps the best step."""

    def __init__(self, best: Callable[[], int | None]):
        self._best = best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """For each checkpoint, whether it is kept."""
        best = self._best()
        return [checkpoint.step == best for checkpoint in checkpoints]


def _alone(directory: Path) -> Any:
    """The library's context where process 0 uses it and the others do not."""
    context = ocp.Context()
    if processes.several():
        context.multiprocessing.active_processes = {0}
        # The library would make the folder only with all processes, and refuses with some.
        checkpoint_manager._create_root_directory = lambda *_: directory.mkdir(parents=True, exist_ok=True)
    return context


def _wait_for_key(client: Any, key: str, timeout_secs: float) -> str:
    with client._condition:
        if not client._condition.wait_for(lambda: key in client._data, timeout_secs):
            raise TimeoutError(f"no answer within {timeout_secs} s: {key}")
        return client._data[key]


# The library's threads wait for each other by the wall clock, which gives up when it is set forward.
_signals: Any = ThreadSafeKeyValueSignalingClient
_signals.blocking_key_value_get = _wait_for_key


def compare(wanted: PyTree, stored: PyTree) -> list[tuple[str, str, str]]:
    """(path, stored, wanted) of every array that one side lacks ("-") or that has another shape or dtype."""
    left, right = _shapes(stored), _shapes(wanted)
    paths = sorted({*left, *right})
    return [(path, left.get(path, "-"), right.get(path, "-")) for path in paths if left.get(path) != right.get(path)]


def _shapes(tree: PyTree) -> dict[str, str]:
    """The dtype and shape of each array ("float32[2, 3]"), by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{jax.numpy.dtype(x.dtype).name}{list(x.shape)}"
        for path, x in leaves
        if hasattr(x, "shape")
    }


@contextlib.contextmanager
def _plain_errors(what: str, kind: type[RunError] = RunError):
    """Turns the storage library's long messages into one line."""
    try:
        yield
    except (KeyboardInterrupt, RunError):
        raise
    except Exception as error:
        text = " ".join(str(error.__cause__ or error).split())
        if "No space left" in text or "RESOURCE_EXHAUSTED" in text:
            text = "no space left on the disk; free some and run the same command again"
            kind = RunError  # the files are not to blame
        raise kind(f"{what}: {text[:300]}") from error
