# SPDX-License-Identifier: Apache-2.0
"""Compiled programs are read out of the compilation cache while the network is still being traced.

jax asks the cache for a program once that is traced and lowered, since the key is a hash of what came of it. To read a
deep network's then takes as long again (docs/step.md has the times). A start of the same config most likely asks for
the same keys as the last one: so they are noted beside the cache, and a thread reads them beforehand. What it has read
is handed over where jax asks for that very key, and nowhere else: whatever has changed is read, or compiled, as ever.
"""

import contextlib
import hashlib
import inspect
import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jaxlib.version
from jax._src import compilation_cache  # no public function is told before a program is read
from jaxlib import xla_client

from cnnjax import processes
from cnnjax.types import Config

_SWITCH = "CNNJAX_READ_AHEAD"
_FOLDER = "ahead"  # of the cache
_KEPT = 64  # notes
_ASKED_WITH = ("cache_key", "compile_options", "backend", "executable_devices")

Found = tuple[Any, int | None]
"""A loaded program and the seconds that its compilation took; (None, None) where the cache has none."""


class Request(NamedTuple):
    """What jax asks the cache with."""

    key: str
    options: str  # the serialised compile options, in hexadecimal digits
    devices: Sequence[int]  # their ids


class Start:
    """One start: what it asks the cache for is noted, what the last one asked for is read beforehand, by a thread.

    Args:
      note: the file of the requests.
      read: jax's function that reads a program.
    """

    def __init__(self, note: Path, read: Callable[..., Found]) -> None:
        self._note, self.read = note, read
        self._noted = _load(note)
        self._asked: dict[str, Request] = {}
        self._missed: set[str] = set()
        self._coming: dict[str, Future[Found]] = {request.key: Future() for request in self._noted}
        if self._noted:
            # No daemon: the process must not end under a thread that is in the middle of XLA.
            threading.Thread(target=self._read_all, name="read-ahead", args=(dict(self._coming),)).start()

    def _read_all(self, coming: dict[str, Future[Found]]) -> None:
        for request in self._noted:
            future = coming[request.key]
            if not threading.main_thread().is_alive() or not future.set_running_or_notify_cancel():
                continue  # the process is at its end, or jax was here first
            try:
                options = xla_client.CompileOptions.ParseFromString(bytes.fromhex(request.options))
                by_id = {device.id: device for device in jax.devices()}
                devices = xla_client.DeviceList(tuple(by_id[i] for i in request.devices))
                future.set_result(self.read(request.key, options, jax.devices()[0].client, devices))
            except Exception as error:  # jax reads it itself then, and tells what there is to tell
                future.set_exception(error)

    def get(self, key: str, options: Any, backend: Any, devices: Any, *more: Any) -> Found:
        """What jax's function would return, in its place."""
        future = self._coming.pop(key, None)
        found: Found = (None, None)
        if future is not None and not any(more) and not future.cancel():
            with contextlib.suppress(Exception):
                found = future.result()
        if found[0] is None:
            found = self.read(key, options, backend, devices, *more)
        self._asked[key] = Request(key, options.SerializeAsString().hex(), [device.id for device in devices])
        if found[0] is None:
            self._missed.add(key)
        return found

    def end(self, is_kept: Callable[[str], bool]) -> None:
        """Notes what was asked for, as far as the cache has it now; nothing more is read."""
        for future in self._coming.values():
            future.cancel()
        kept = [request for key, request in self._asked.items() if key not in self._missed or is_kept(key)]
        if kept != self._noted:
            _store(self._note, kept)


_under_way: list[Start] = []  # at most one


def begin(config: Config) -> None:
    """Reads what the last start of this config (but for its seed) asked the compilation cache for, until `end`.

    The backend must be set up. Nothing happens where there is no cache in a local folder, for one of several processes,
    and with a jax whose cache is asked otherwise. `CNNJAX_READ_AHEAD=0` in the environment leaves it out.
    """
    end()
    folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    on = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    read = compilation_cache.get_executable_and_time
    known = tuple(inspect.signature(read).parameters)[: len(_ASKED_WITH)] == _ASKED_WITH
    if not on or not folder or "://" in folder or not known or processes.several() or os.environ.get(_SWITCH) == "0":
        return
    start = Start(Path(folder) / _FOLDER / f"{_name(config)}.json", read)
    compilation_cache.get_executable_and_time = start.get
    _under_way.append(start)


def end() -> None:
    """To be called when the programs of the start are there: jax asks as ever again."""
    while _under_way:
        start = _under_way.pop()
        compilation_cache.get_executable_and_time = start.read
        start.end(_is_kept)


def _is_kept(key: str) -> bool:
    try:
        return compilation_cache.is_executable_in_cache(jax.devices()[0].client, key)
    except OSError:
        return False


def _name(config: Config) -> str:
    """A hash of what most likely makes the programs what they are; that they are is for jax's keys to tell."""
    device = jax.devices()[0]
    settings = {key: value for key, value in config.to_dict().items() if key != "seed"}
    versions = jax.__version__, jaxlib.version.__version__, device.platform, device.device_kind
    told = json.dumps((settings, versions, os.environ.get("XLA_FLAGS")), sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _load(note: Path) -> list[Request]:
    """What is noted, each once; nothing where there is no note, or none that can be read."""
    try:
        rows = json.loads(note.read_bytes())
        requests = [Request(str(key), str(options), list(devices)) for key, options, devices in rows]
        return list({request.key: request for request in requests}.values())
    except (OSError, ValueError, TypeError):
        return []


def _store(note: Path, requests: Sequence[Request]) -> None:
    """Notes them, unless the disk will not have it; the oldest notes make room."""
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        unfinished = note.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(requests))
        unfinished.replace(note)
        by_age = sorted(note.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in by_age[_KEPT:]:
            old.unlink()
