# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: what lies in it, how a new one begins and how an old one goes on."""

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from ml_collections import ConfigDict

from cnnjax.config import CONFIG_FILE, MEMBERS_FILE, difference, load_run_config
from cnnjax.errors import RunError, UsageError
from cnnjax.report.environment import environment, write_json
from cnnjax.report.table import format_table
from cnnjax.types import Dataset

logger = logging.getLogger(__name__)

DATASET_FILE = "dataset.json"
ENVIRONMENT_FILE = "environment.json"
RESULTS_FILE = "results.json"
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
    try:
        told = json.loads(path.read_text())
        if all(isinstance(name, str) for name in told["members"]) and isinstance(told["kind"], str):
            return told
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"cannot read {path}: {error}; start again in another --workdir") from error
    raise RunError(f"cannot read {path}: it names no runs; start again in another --workdir")


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
        found = json.loads((workdir / ENVIRONMENT_FILE).read_text())
        return f" (process {found['pid']} on {found['host']}, since {found['start_time']})"
    except (OSError, ValueError, KeyError):
        return ""


def begin(workdir: Path, config: ConfigDict, info: DatasetInfo) -> None:
    """Writes what the run is: config, environment, DatasetInfo; the folder is made if need be."""
    write_json(workdir / ENVIRONMENT_FILE, environment())
    write_json(workdir / DATASET_FILE, info._asdict())
    write_json(workdir / CONFIG_FILE, json.loads(config.to_json()))  # last: its presence says that a run began


def dataset_info(workdir: Path) -> DatasetInfo:
    """Reads the DatasetInfo of a run."""
    path = workdir / DATASET_FILE
    try:
        info = json.loads(path.read_text())
        height, width, channels = info["image_shape"]
        return DatasetInfo(info["name"], tuple(info["label_names"]), (height, width, channels), info["num_examples"])
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{workdir} holds no complete run: cannot read {path}: {error}") from error
