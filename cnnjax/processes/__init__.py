# SPDX-License-Identifier: Apache-2.0
"""Several processes that train as one: how they start, what process 0 does for all, and how they end.

Process 0 alone writes files and prints. The others need no workdir and no shared file system.
"""

import contextlib
import hashlib
import json
import logging
import platform
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from cnnjax.processes.lifeline import Lifeline
from cnnjax.processes.meeting import meet
from cnnjax.processes.place import Place, find_place

__all__ = ("check_same", "facts", "find_place", "first", "is_first", "join", "leave", "several")

logger = logging.getLogger(__name__)

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
# Of JAX's own runtime, which our lifeline is ahead of. It counts the seconds in which all processes were stopped, or
# their machine slept, and then ends them by SIGABRT: so it is given an hour.
_HEARTBEAT_SECONDS = 3600
_T = TypeVar("_T")


class _Here:
    """This process."""

    lifeline: Lifeline | None = None  # once it is one of several


def join(place: Place, facts: Mapping[str, Any], seconds: float) -> None:
    """Meets the other processes and starts JAX's runtime with them; once in a process, before JAX's backend starts.

    Args:
      place: of this process.
      facts: what must be the same in all of them; `error`: why this one cannot run.
      seconds: how long to wait for the others.

    Raises:
      RunError: a process is missing, or would run something else.
    """
    if place.process_id:
        logging.getLogger("cnnjax").setLevel(logging.ERROR)
    company = meet(place, facts, seconds)
    import jax  # after the meeting: who is missing is told without it

    logging.getLogger("jax._src.distributed").setLevel(logging.ERROR)  # warns of proxies, which only gRPC's may matter
    jax.distributed.initialize(
        place.coordinator,
        place.num_processes,
        place.process_id,
        None if place.local_device is None else [place.local_device],
        cluster_detection_method="deactivate",
        heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
    )
    _Here.lifeline = Lifeline(place.process_id, company)
    hosts = len(set(company.hosts))
    logger.info("%d processes on %d host%s (%s)", place.num_processes, hosts, "s" * (hosts > 1), place.source)


def several() -> bool:
    """Whether this is one of several processes."""
    return _Here.lifeline is not None


def is_first() -> bool:
    """Whether this process writes files and prints."""
    return _Here.lifeline is None or _Here.lifeline.process_id == 0


def first(function: Callable[[], _T]) -> _T:
    """What `function` gives in process 0, a JSON value, in all of them; the others do not call it."""
    if _Here.lifeline is None:
        return function()
    return _Here.lifeline.share(function() if is_first() else None)


def check_same(what: str, value: Any) -> None:
    """All processes call it with a JSON value; process 0 raises RunError when it is not the same in all of them."""
    if _Here.lifeline is not None:
        _Here.lifeline.check_same(what, value)


def leave(code: int, message: str | None, *, unexpected: bool = False) -> int:
    """The end of this process, with an exit code and what the user is told of an error; returns the code.

    Of several processes all end: with the others' work done, or, after an error, at once and without coming back.
    `unexpected` are errors that are not ours, and may be another process's loss.
    """
    lifeline = _Here.lifeline
    if lifeline is None:
        if message is not None:
            print(message, file=sys.stderr)
        return code
    if message is not None:
        if unexpected:
            lifeline.wait_for_news()
        lifeline.fail(message.removeprefix("error: "), code)
    lifeline.finish()
    import jax

    with contextlib.suppress(Exception):  # of the runtime's own farewell
        jax.distributed.shutdown()
    return code


def facts(command: str, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """What has to be the same in all processes: the command, the config, the code and the packages."""
    code = hashlib.sha256()
    root = Path(__file__).parents[1]
    files = [*sorted(root.rglob("*.py")), *_own_files(config or {})]
    for path in files:
        code.update(path.read_bytes())
    versions = {name: metadata.version(name) for name in _PACKAGES}
    python = ".".join(platform.python_version_tuple()[:2])
    return {
        "command": command,
        "code": code.hexdigest()[:12],
        "python": python,
        **versions,
        **{f"config.{name}": json.loads(json.dumps(value)) for name, value in _flat(config or {})},
    }


def _own_files(config: Mapping[str, Any]) -> list[Path]:
    """The user's own network, where the config names its file."""
    path = Path(str(config.get("model", {}).get("name", "")).rpartition(":")[0])
    return [path] if path.suffix == ".py" and path.is_file() else []


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in config.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return found
