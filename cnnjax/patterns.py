# SPDX-License-Identifier: Apache-2.0
"""Readable patterns on the paths of parameters: `stem*`, `stage1/*`, `*/bn*`, `!output`.

A path is the parameter's keys joined by slashes, as `run.py summary` shows them: "stage1/block1/conv1/kernel". A
pattern has `*` (any characters, slashes too), `?` and `[...]`, and stands for all parameters whose path it matches and
for all below a layer that it matches: `output` is output/kernel and output/bias. Of several patterns that match a
parameter the last one decides, so that exceptions follow the rule; `!` takes back.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax

from cnnjax.errors import UsageError, nearest_first
from cnnjax.types import PyTree

_SHOWN = 4  # names that a message offers


def path_string(path: Sequence[Any]) -> str:
    """The path of a leaf, as `jax.tree_util` gives it, in words: "stage1/block1/conv1/kernel"."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def param_paths(params: PyTree) -> list[str]:
    """The paths of all leaves, in the tree's order."""
    return [path_string(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]


def matches(pattern: str, path: str) -> bool:
    """Whether `pattern` (without a leading "!") matches a path or a layer that it lies in."""
    parts = path.split("/")
    return any(fnmatchcase("/".join(parts[:length]), pattern) for length in range(1, len(parts) + 1))


def decide(patterns: Sequence[str], paths: Sequence[str], key: str) -> dict[str, int]:
    """Which pattern decides over each path, by number; paths that none matches are left out.

    Args:
      patterns: "!" at the front is not looked at here.
      paths: of the parameters.
      key: of the config, for messages: "config.freeze".

    Raises:
      UsageError: a pattern matches nothing, or later ones decide over all that it matches.
    """
    decided: dict[str, int] = {}
    first: list[str] = []  # of the paths that each pattern matches
    for number, pattern in enumerate(patterns):
        found = [path for path in paths if matches(pattern.removeprefix("!"), path)]
        if not found:
            raise UsageError(f"{key}: {pattern!r} matches no parameter; {_offer(pattern, paths)}")
        first.append(found[0])
        decided |= dict.fromkeys(found, number)
    for number, pattern in enumerate(patterns):
        if number not in decided.values():
            raise UsageError(
                f"{key}: {pattern!r} decides nothing: of what it matches, the later "
                f"{patterns[decided[first[number]]]!r} decides; put the general pattern first, or drop one"
            )
    return decided


def selected(patterns: Sequence[str], paths: Sequence[str], key: str) -> list[str]:
    """The paths that `patterns` select, in order; "!PATTERN" takes back what earlier ones selected.

    Raises:
      UsageError: as `decide`.
    """
    decided = decide(patterns, paths, key)
    return [path for path in paths if path in decided and not patterns[decided[path]].startswith("!")]


def parse_pairs(entries: Sequence[str], key: str, what: str) -> list[tuple[str, float]]:
    """Entries "PATTERN=NUMBER" as (pattern, number).

    Raises:
      UsageError: an entry is not of that form, or its number is negative or not finite.
    """
    pairs = []
    for entry in entries:
        pattern, _, text = entry.rpartition("=")
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not pattern or not 0 <= number < float("inf"):
            raise UsageError(f"{key}: {entry!r} is not of the form PATTERN={what}, {what} a number of 0 or more")
        pairs.append((pattern, number))
    return pairs


def _offer(pattern: str, paths: Iterable[str]) -> str:
    """Layers that the pattern's writer may have meant."""
    layers = dict.fromkeys(layer for path in paths for layer in (path.split("/")[0], path.rpartition("/")[0]) if layer)
    near = nearest_first(pattern, layers or paths)
    return f"there are {', '.join(near[:_SHOWN])}{', ...' if len(near) > _SHOWN else ''} (see 'run.py summary')"
