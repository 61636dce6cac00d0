# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: what lies in it, how a new one begins and how an old one goes on."""

import contextlib
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from ml_collections import ConfigDict

from cnnjax.config import CONFIG_FILE, MEMBERS_FILE, difference, load_run_config
from cnnjax.errors import RunError, UsageError
from cnnjax.jsonfile import read_object
from cnnjax.report.environment import environment, write_json
from cnnjax.report.log import NOT_FINITE
from cnnjax.report.table import format_table
from cnnjax.types import Dataset

logger = logging.getLogger(__name__)

DATASET_FILE = "dataset.json"
ENVIRONMENT_FILE = "environment.json"
RESULTS_FILE = "results.json"
MAX_VALUES = 2**30
"""Most values that an image of a run may have: more than any picture that is read (`data.images.MAX_PIXELS`)."""
_LOCK_FILE = ".lock"


class DatasetInfo(NamedTuple):
    """What a run must remember of its data to be used without them."""

    name: str
    label_names: tuple[str, ...]
    image_shape: tuple[int, int, int]  # height, width, channels
    num_examples: dict[str, int]  # by split


def is_run(workdir: Path) -> bool:
    """Whether a run has begun there."""
    return (workdir / CONFIG_FILE).exists()


def members(workdir: Path) -> list[Path]:
    """The folders of the runs that `workdir` holds, in order: those of an ensemble or a sweep, else itself alone.

    Raises:
      RunError: the list of the runs cannot be read.
    """
    path = workdir / MEMBERS_FILE
    if not path.is_file():
        return [workdir]
    return [workdir / name for name in read_members(workdir)["members"]]


def read_members(workdir: Path) -> dict[str, Any]:
    """What `members.json` of an ensemble or a sweep tells: `kind`, `members` (folders below) and what they are.

    Raises:
      RunError: it cannot be read.
    """
    path = workdir / MEMBERS_FILE
    told = read_object(path)
    names = told.get("members")
    if not isinstance(told.get("kind"), str) or not isinstance(names, list) or not names:
        raise RunError(f"cannot read {path}: it names no runs; start again in another --workdir")
    for name in names:
        if not isinstance(name, str) or name in ("", ".", "..") or not name.isprintable() or Path(name).name != name:
            raise RunError(f"{path} names {name!r:.80}, no folder below its own; start again in another --workdir")
    return told


def check_kind(workdir: Path, kind: str) -> None:
    """Raises UsageError when the folder holds something else than a `kind`: "run", "ensemble" or "sweep"."""
    if is_run(workdir):
        held = "run"
    elif (workdir / MEMBERS_FILE).is_file():
        held = str(read_members(workdir)["kind"])
    else:
        return
    if held != kind:
        article = {"ensemble": "an ensemble", "run": "a single run"}.get(held, f"a {held}")
        raise UsageError(
            f"{workdir} holds {article} already, and this command makes another thing: take another --workdir"
        )


def check_same_config(workdir: Path, config: ConfigDict, *, accept_changes: bool) -> None:
    """Lists what `config` changes in the run that `workdir` holds.

    Raises:
      UsageError: it changes something, and changes are not accepted.
    """
    changes = difference(load_run_config(workdir), config)
    if not changes:
        return
    rows = [(f"config.{key}", repr(old), repr(new)) for key, old, new in changes]
    logger.warning("%s", format_table(("key", f"run in {workdir}", "now"), rows, "lll"))
    if not accept_changes:
        raise UsageError(
            f"{workdir} holds a run with another config ({len(changes)} keys differ, listed above): go on with "
            "--accept_changes, or take another --workdir"
        )


def describe_dataset(dataset: Dataset) -> DatasetInfo:
    """What a run remembers of a data set that has its `train` split."""
    counts = {name: len(split.label) for name, split in dataset.splits.items()}
    return DatasetInfo(dataset.name, dataset.label_names, dataset.splits["train"].image.shape[1:], counts)


@contextlib.contextmanager
def hold(workdir: Path) -> Iterator[None]:
    """Makes the folder, if need be, and keeps it from every other process; one that dies lets go of it.

    Raises:
      RunError: another process trains there, or the folder cannot be made or written to.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(workdir / _LOCK_FILE, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise RunError(
            f"another process is training in {workdir}{_holder(workdir)}: wait for it, stop it, or take another "
            "--workdir"
        ) from error
    except OSError as error:
        raise RunError(f"cannot write to the workdir {workdir}: {error.strerror}; choose another --workdir") from error
    try:
        yield
    finally:
        lock.release()


def _holder(workdir: Path) -> str:
    """Who trains there, as far as its folder tells."""
    try:
        found = read_object(workdir / ENVIRONMENT_FILE)
        return f" (process {found['pid']} on {found['host']}, since {found['start_time']})"
    except (RunError, KeyError):
        return ""


def begin(workdir: Path, config: ConfigDict, info: DatasetInfo) -> None:
    """Writes what the run is: config, environment, DatasetInfo; the folder is made if need be."""
    write_json(workdir / ENVIRONMENT_FILE, environment())
    write_json(workdir / DATASET_FILE, info._asdict())
    write_json(workdir / CONFIG_FILE, json.loads(config.to_json()))  # last: its presence says that a run began


def read_results(workdir: Path) -> dict[str, Any]:
    """`results.json` of a run: `step`, `last` (metrics by split), `best` likewise and more.

    Raises:
      RunError: it cannot be read, or is none.
    """
    path = workdir / RESULTS_FILE
    results = read_object(path)
    last = results.get("last")
    if _is_count(results.get("step")) and isinstance(last, dict) and last and all(map(_are_metrics, last.values())):
        return results
    raise RunError(f"{path} holds no results: remove it and train on")


def _are_metrics(value: Any) -> bool:
    """Whether it is an object of numbers, those that are not finite in words."""
    return isinstance(value, dict) and all(
        isinstance(x, int | float) or (isinstance(x, str) and x in NOT_FINITE) for x in value.values()
    )


def dataset_info(workdir: Path) -> DatasetInfo:
    """Reads the DatasetInfo of a run.

    Raises:
      RunError: there is none, or it is damaged.
    """
    path = workdir / DATASET_FILE
    told = read_object(path)
    name, labels, shape, counts = (told.get(key) for key in DatasetInfo._fields)
    if (
        isinstance(name, str)
        and isinstance(labels, list)
        and all(isinstance(label, str) for label in labels)
        and isinstance(shape, list)
        and len(shape) == 3
        and all(_is_count(side) and side > 0 for side in shape)
        and math.prod(shape) <= MAX_VALUES
        and isinstance(counts, dict)
        and all(map(_is_count, counts.values()))
    ):
        return DatasetInfo(name, tuple(labels), (shape[0], shape[1], shape[2]), counts)
    raise RunError(f"{path} does not describe a data set; restore it, or train again in another --workdir")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
