# SPDX-License-Identifier: Apache-2.0
"""What is noted in a checkpoint beside its arrays, under a seal: flipped bits must not change what is believed."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "_CHECKPOINT_METADATA"  # the storage library's own, which keeps ours under "custom_metadata"
_SEAL, _SCORE = "seal", "score"


def sealed(notes: Mapping[str, Any]) -> dict[str, Any]:
    """The notes with a checksum of them all."""
    return {**notes, _SEAL: _checksum(notes)}


def read_notes(checkpoint: Path) -> dict[str, Any]:
    """The notes of the checkpoint in that folder, without their seal; {} of one that was saved without notes.

    Raises:
      OSError: there is no such file, or it cannot be read.
      ValueError: it is not what was written.
    """
    try:
        notes = dict(json.loads((checkpoint / FILE).read_text())["custom_metadata"] or {})
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{FILE} holds no notes") from error
    if _SEAL in notes and notes.pop(_SEAL) != _checksum(notes):
        raise ValueError("what is noted beside the arrays changed on the disk after it was saved")
    return notes


def read_score(checkpoint: Path) -> float | None:
    """The score that the checkpoint in that folder was saved with; None where there is none, or none to be trusted."""
    try:
        notes = read_notes(checkpoint)
        if _SCORE not in notes:  # older checkpoints have a file for it
            notes = json.loads((checkpoint / "metrics/metrics").read_text())
        return float(notes[_SCORE])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _checksum(notes: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(notes, sort_keys=True).encode())
