# SPDX-License-Identifier: Apache-2.0
"""JSON from files that anybody may have written: strict, bounded, and one sentence for whatever is wrong."""

import json
import math
from pathlib import Path
from typing import Any

from cnnjax.errors import RunError

MAX_BYTES = 64 * 2**20
"""Most that is read of a file; those of a run take some tens of KiB."""

_LARGEST = 2**63
_SHOWN = 200  # characters of a reason


def loads(text: str | bytes) -> Any:
    """What strict JSON says: numbers are finite and whole ones fit into 64 bits.

    Raises:
      ValueError: it is no JSON, is nested deeper than Python reads, or has a number that is none of these.
    """
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
      RunError: the file cannot be read, is larger than MAX_BYTES, or holds no JSON object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES >> 20} MiB")
        value = loads(content)
        if not isinstance(value, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise RunError(f"cannot read {path}: {reason[:_SHOWN]}; restore it, or make what it belongs to anew") from error
    return value


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _whole(text: str) -> int:
    if len(text) > 20 or not -_LARGEST <= int(text) < _LARGEST:
        raise ValueError(f"{text[:20]} is too large a number")
    return int(text)
