# SPDX-License-Identifier: Apache-2.0
"""Commands on remote workdirs: a local folder takes the place of each URL for as long as the command runs."""

import argparse
import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from filelock import Timeout

from cnnjax.errors import CnnjaxError, RunError, UsageError
from cnnjax.remote import commits as committed
from cnnjax.remote import is_remote
from cnnjax.remote.fetching import fetch
from cnnjax.remote.lease import Lease, last_stage
from cnnjax.remote.sending import Mirror, Sender
from cnnjax.remote.stage import Stage
from cnnjax.remote.store import Store

logger = logging.getLogger(__name__)

_ARGUMENTS = ("workdir", "workdirs", "runs", "folder", "classifier")  # those that name folders of runs


def is_any_remote(args: argparse.Namespace) -> bool:
    """Whether a command line names a URL where it may name a folder."""
    return any(is_remote(place) for name in (*_ARGUMENTS, "out") for place in _places(args, name))


@contextlib.contextmanager
def local(args: argparse.Namespace, *, trains: bool, which: str | None) -> Iterator[argparse.Namespace]:
    """The arguments with a folder for each URL.

    Args:
      args: of a command.
      trains: whether it makes or continues a run in its workdir, all of which is then fetched, held and sent.
      which: the checkpoints it reads, as `commits.chosen` takes them.

    Raises:
      UsageError, RunError: a store cannot be used, holds no run, or is in use.
      RunError: at the end, when something of the run is only local.
    """
    if is_remote(getattr(args, "out", None)):
        raise UsageError(f"--out={args.out}: give a folder of this machine; only workdirs may be URLs")
    args, folders = argparse.Namespace(**vars(args)), {}
    with contextlib.ExitStack() as stack:
        for name in _ARGUMENTS:
            for url in filter(is_remote, _places(args, name)):
                if not url.partition("://")[2].strip("/"):
                    raise UsageError(f"{url} names no bucket; give gs://BUCKET/RUN or s3://BUCKET/RUN")
                if url not in folders:
                    opened = training(url) if trains and name == "workdir" else reading(url, which)
                    folders[url] = str(stack.enter_context(opened))
            value = getattr(args, name, None)
            if isinstance(value, list):
                setattr(args, name, [folders.get(place, place) for place in value])
            elif is_remote(value):
                setattr(args, name, folders[value])
        yield args


@contextlib.contextmanager
def training(url: str) -> Iterator[Path]:
    """The folder to train in: the run is fetched, kept from others, and sent as it grows.

    Raises:
      UsageError, RunError: before anything is trained, when the store cannot be written or is in use; at the end, when
        something is only local.
    """
    stage = Stage(url)
    try:
        stage.trains.acquire()
    except Timeout as error:
        raise RunError(
            f"{url} is in use by a process on this machine: wait for it, stop it, or take another --workdir"
        ) from error
    with contextlib.ExitStack() as stack:
        stack.callback(stage.trains.release)
        store = Store(url)
        lease = Lease(store, stage.id)
        stack.callback(lease.release)
        with stage.fetches:
            shutil.rmtree(stage.home / "outgoing", ignore_errors=True)
            commits = fetch(store, stage, committed.ALL, lease.previous)
        mirror = Mirror(store, stage, commits, lease)
        mirror.clean()
        logger.info("%s: working in %s, sending what is completed", url, stage.folder)
        sender = Sender(mirror, stage)
        try:
            yield stage.folder
        except KeyboardInterrupt:  # asked for twice: no waiting
            sender.abandon()
            raise
        except BaseException:
            try:
                sender.finish()
            except RunError as error:  # what went wrong first is what is told last
                logger.error("%s", error)
            raise
        sender.finish()
        logger.info("all of it is in %s", url)


@contextlib.contextmanager
def reading(url: str, which: str | None) -> Iterator[Path]:
    """The folder to read from: what the store holds, with the checkpoints `which`; what is written there is sent.

    Raises:
      UsageError, RunError: the store cannot be read, or holds no such checkpoint.
    """
    stage, store = Stage(url), Store(url)
    if _is_trained_here(stage):
        logger.info("a process on this machine trains in %s: its files are taken as they are, in %s", url, stage.folder)
        yield stage.folder
        return
    with stage.fetches:
        commits = fetch(store, stage, which, last_stage(store))
    if which is not None and not stage.files():
        raise RunError(f"there is no run in {url}; train one first: run.py --config=FILE --workdir={url}")
    mirror = Mirror(store, stage, commits)
    mirror.pass_over()
    logger.info("%s: read from %s", url, stage.folder)
    yield stage.folder
    try:
        mirror.send_files()
    except CnnjaxError as error:  # the command did what it was asked to, and its files are here
        logger.warning("what was written stays in %s: %s", stage.folder, error)


def checkpoints(args: argparse.Namespace, module: ModuleType) -> str | None:
    """Which checkpoints a command reads: as its flag says, else as its module does (CHECKPOINT), else none."""
    if getattr(args, "average", ""):
        return committed.ALL
    if len(getattr(args, "runs", ())) > 1 and hasattr(args, "checkpoint"):
        return None  # a page of several runs shows their records
    return getattr(args, "checkpoint", getattr(module, "CHECKPOINT", None))


def _is_trained_here(stage: Stage) -> bool:
    try:
        stage.trains.acquire()
    except Timeout:
        return True
    stage.trains.release()
    return False


def _places(args: argparse.Namespace, name: str) -> list[str]:
    value = getattr(args, name, None)
    return value if isinstance(value, list) else [value] if value else []
