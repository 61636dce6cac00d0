# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can mend: one line that names the thing and the remedy, no traceback."""

import difflib
import unicodedata
from collections.abc import Iterable


def printable(text: str) -> str:
    r"""`text` on one line: control characters, which could break a table or a terminal, as `\n` or `\x1b`."""
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Cf" else c.encode("unicode_escape").decode() for c in text
    )


_LONGEST = 1200  # characters of a message
_LONGEST_REASON = 100  # characters of what another library says


class CnnjaxError(Exception):
    """Base of the errors that `run.py` prints as one line. `exit_code` is the process's."""

    exit_code = 1

    def __str__(self) -> str:
        """The message on one line, not a screen of it: what it quotes from a file may be anything."""
        text = printable(super().__str__())
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 305]} ... {text[-300:]}"


class UsageError(CnnjaxError, ValueError):
    """A name, value or flag is wrong; nothing was run."""

    exit_code = 2


class RunError(CnnjaxError, RuntimeError):
    """The command was understood but could not be carried out."""


class Diverged(RunError):
    """A loss, metric, gradient or output that is not finite."""


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """`known` sorted by likeness to `name`, then by name."""

    def unlikeness(candidate: str) -> tuple[float, str]:
        return -difflib.SequenceMatcher(None, name.lower(), candidate.lower()).ratio(), candidate

    return sorted(known, key=unlikeness)


def unknown(kind: str, name: str, known: Iterable[str], limit: int = 12) -> str:
    """The sentence for a name that is not known: the nearest known ones come first."""
    names = nearest_first(name, known)
    if not names:
        return f"unknown {kind} {name!r}; there is none to choose from"
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return f"unknown {kind} {name!r}; did you mean {names[0]!r}? Known: {', '.join(names[:limit])}{more}"


def why(error: Exception) -> str:
    """The reason for which something cannot be read, as its reader raised it: a part of one line."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(reason.split())[:_LONGEST_REASON]
