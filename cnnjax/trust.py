# SPDX-License-Identifier: Apache-2.0
"""Which networks of a config may be run, when they are code outside this package: those that the user has named.

A name such as "net.py:net" or "package.module:function" in a config file in Python, or on the command line, is the
user's own word, and is noted in the user's cache folder. The same name in a file of data (the config.json of a run,
or one given as --config) is not: such files are passed around, and "os:system" is a name, too. There it is run only
when the user has named it before.
"""

import contextlib
import json
from pathlib import Path

from cnnjax.errors import UsageError

FILE = "trusted_networks.jsonl"
"""In the cache folder: a JSON string a line."""

_accepted: set[str] = set()  # what this process was told, should the file not be writable


def accept(name: str) -> None:
    """Notes that the user has named the network `name`; names without a colon are this package's own."""
    entry = _entry(name)
    if ":" not in name or entry in _known():
        return
    _accepted.add(entry)
    with contextlib.suppress(OSError, RuntimeError):  # then it holds for this process
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as opened:
            opened.write(f"{json.dumps(entry)}\n")


def check(name: str) -> None:
    """Raises UsageError when the network `name` is code that the user has never named."""
    if ":" in name and _entry(name) not in _known():
        raise UsageError(
            f"the config comes from a file of data, and its network is code, {name!r}, which would be run: if you "
            f"trust it, name it yourself with --config.model.name={name}"
        )


def _entry(name: str) -> str:
    """The name as it is noted: a file is the same from whichever folder it is named."""
    place, _, function = name.rpartition(":")
    return f"{Path(place).expanduser().resolve()}:{function}" if place.endswith(".py") else name


def _file() -> Path:
    # Imported here: it brings jax, which who only reads a config need not wait for.
    from cnnjax.data.cache import cache_dir

    return cache_dir() / FILE


def _known() -> set[str]:
    try:
        lines = _file().read_text().splitlines()
    except (OSError, RuntimeError, ValueError):
        lines = []
    known = set(_accepted)
    for line in lines:
        with contextlib.suppress(ValueError):  # a line cut short
            known.add(str(json.loads(line)))
    return known
