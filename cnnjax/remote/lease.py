# SPDX-License-Identifier: Apache-2.0
"""Who trains in a remote workdir: one process, which says every few seconds that it is alive.

Leases are objects with rising numbers, and the highest counts. To take one over is to write the next number, which
only one can: stores refuse to write an object that must not be there yet. So a process that was cut off for long
learns that it was succeeded, and sends nothing any more.
"""

import contextlib
import json
import logging
import os
import platform
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnjax.errors import RunError
from cnnjax.remote.store import Store

logger = logging.getLogger(__name__)

FOLDER = ".remote/lease"
RENEW_EVERY = 20.0  # seconds
SILENT_FOR = 60.0  # seconds without a renewal, watched, after which its holder counts as gone
OLD = 900.0  # seconds by the clocks of two machines; clocks that far apart cannot sign requests to a store


class Succeeded(RunError):
    """Another process has taken the lease over."""


class Lease:
    """The lease of a remote workdir, held and renewed until `release`.

    Attributes:
      previous: the id of the stage that trained there last; None when none did.
    """

    def __init__(self, store: Store, stage: str, *, renew_every: float = RENEW_EVERY, silent_for: float = SILENT_FOR):
        """Takes the lease for the stage of that id. The first object it writes shows whether one may write at all.

        Raises:
          RunError: another process holds it, or the store refuses.
        """
        self._store, self._every, self._silent_for = store, renew_every, silent_for
        last, held = _last(store)
        self.previous: str | None = held.get("stage")
        if held.get("state") == "held":
            self._check_gone(last, held)
        self._number = last + 1
        self._told = {"state": "held", "owner": uuid.uuid4().hex, "stage": stage, **_process(), "beat": 0}
        try:
            store.write(_name(self._number), self._content(), exclusive=True)
        except FileExistsError as error:
            raise self._refused(_last(store)[1]) from error
        number, now = _last(self._store)  # not every store knows how to refuse
        if number != self._number or now.get("owner") != self._told["owner"]:
            raise self._refused(now)
        for path in store.list(FOLDER):
            if path < _name(self._number):
                store.delete(path)
        self._renewed, self._lock, self._ended = time.monotonic(), threading.Lock(), threading.Event()
        self._successor: RunError | None = None
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Returns when the lease is surely still held.

        Raises:
          Succeeded: it is not.
          Unreachable: the store does not tell.
        """
        if self._successor:
            raise self._successor
        if time.monotonic() - self._renewed > 2 * self._every:
            self._renew()

    def release(self) -> None:
        """Gives the lease back; the object stays and tells where the run was trained last."""
        self._ended.set()
        self._thread.join()
        if self._successor is None:
            with contextlib.suppress(RunError):  # then it ends by itself
                self._renew("released")

    def _keep(self) -> None:
        while not self._ended.wait(self._every) and self._successor is None:
            with contextlib.suppress(RunError):  # who sends something asks with `check`
                self._renew()

    def _renew(self, state: str = "held") -> None:
        with self._lock:
            number, now = _last(self._store)
            if number > self._number or now.get("owner", self._told["owner"]) != self._told["owner"]:
                self._successor = Succeeded(f"another run goes on in {self._store.url}: {_holder(now)}; this one ends")
                raise self._successor
            self._told |= {"state": state, "beat": self._told["beat"] + 1}
            self._store.write(_name(self._number), self._content())
            self._renewed = time.monotonic()

    def _content(self) -> bytes:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return json.dumps({**self._told, "renewed": now}, indent=2).encode()

    def _check_gone(self, number: int, held: dict[str, Any]) -> None:
        """Returns when the holder is gone, as far as one can tell without it."""
        alive = _is_alive(held)
        if alive:
            raise self._refused(held)
        who, url = _holder(held), self._store.url
        if alive is None and _age(held) < OLD:
            logger.info("%s was last used by %s; watching up to %.0f s whether it lives", url, who, self._silent_for)
            deadline = time.monotonic() + self._silent_for
            while time.monotonic() < deadline:
                time.sleep(min(2.0, self._silent_for / 5))
                now = _last(self._store)
                if now[0] != number or now[1].get("beat") != held.get("beat"):
                    if now[1].get("state") != "held":
                        return
                    raise self._refused(now[1])
        logger.warning("%s was held by %s, which is gone: taking over", url, who)

    def _refused(self, held: dict[str, Any]) -> RunError:
        return RunError(
            f"{self._store.url} is in use by {_holder(held)}: wait for it, stop it, or take another --workdir"
        )


def last_stage(store: Store) -> str | None:
    """The id of the stage in which the run was trained last; None when there is none.

    Raises:
      RunError: the store cannot be read, or its lease is damaged.
    """
    return _last(store)[1].get("stage")


def _last(store: Store) -> tuple[int, dict[str, Any]]:
    """(number, what it says) of the highest lease; (0, {}) when there is none."""
    names = sorted(path for path in store.list(FOLDER) if path.endswith(".json"))
    if not names:
        return 0, {}
    try:
        number, held = (
            int(names[-1].rpartition("/")[2].removesuffix(".json")),
            json.loads(store.read(names[-1]) or "{}"),
        )
        return number, held if isinstance(held, dict) else {}
    except ValueError as error:
        raise RunError(f"{store.url}/{names[-1]} is damaged: remove it if no run goes on there") from error


def _name(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _holder(held: dict[str, Any]) -> str:
    return f"process {held.get('pid', '?')} on {held.get('host', '?')} (heard of at {held.get('renewed', '?')})"


def _age(held: dict[str, Any]) -> float:
    """Seconds since the holder was heard of, by the clocks of both machines."""
    try:
        return abs((datetime.now(UTC) - datetime.fromisoformat(held["renewed"])).total_seconds())
    except (KeyError, ValueError, TypeError):
        return OLD


def _process() -> dict[str, Any]:
    """What identifies this process, on this machine and beyond."""
    return {"host": platform.node(), "machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def _machine() -> str:
    """This boot of this machine, and the namespace that numbers of processes are of; "" where that is not told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in the system's own unit; "" when there is none, or that is not told."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state[0] == "Z" else state[19]  # ended, but not yet noticed by who started it
    except (OSError, IndexError):
        return ""


def _is_alive(held: dict[str, Any]) -> bool | None:
    """Whether the holder's process lives; None when it is not of this machine."""
    if not _machine() or held.get("machine") != _machine():
        return None
    return isinstance(held.get("pid"), int) and _started(held["pid"]) == held.get("started") != ""
