# SPDX-License-Identifier: Apache-2.0
"""Whether a set is streamed, and its splits where it is."""

import logging
from collections.abc import Mapping

import numpy as np

from cnnjax.data.carve import Part
from cnnjax.data.jpeg import decode, get_policy
from cnnjax.data.streamed import Rows, streamed_split
from cnnjax.errors import RunError, UsageError, why
from cnnjax.types import Config, Source, Split, Stored

logger = logging.getLogger(__name__)


def streamed_splits(
    source: Source, parts: Mapping[str, Part], numbers: np.ndarray, data: Config
) -> dict[str, Split] | None:
    """The splits of a set that `data.stream` says to stream; None: it is to be decoded as a whole.

    All parts decide together, so that every command comes to the same answer, whichever of them it reads.

    Args:
      source: of the records.
      parts: the carved ones by name, all of them.
      numbers: [K] int32 from `kept_labels`.
      data: config.data.

    Raises:
      UsageError: the source cannot be streamed.
      RunError: no picture can be read, or a label is outside [0, K).
    """
    if data.stream == "false":
        return None
    stored = {name: source.splits[part.split].stored for name, part in parts.items()}
    if any(each is None for each in stored.values()):
        if data.stream == "auto":
            return None
        raise UsageError(f"{data.source} cannot be streamed: it has no files of pictures; set config.data.stream=auto")
    found: dict[str, tuple[Stored, Part]] = {name: (each, parts[name]) for name, each in stored.items() if each}
    max_bytes = int(data.max_resident_gib * 2**30)
    shape = _first_shape(source, found, data)
    counted = {} if not data.labels else {name: _kept(*each, numbers) for name, each in found.items()}
    total = sum(len(counted[name][0]) if name in counted else len(part.indices) for name, part in parts.items())
    if data.stream == "auto" and total * int(np.prod(shape)) <= max_bytes:
        return None
    size = f"{total * int(np.prod(shape)) / 2**30:.3g} GiB"
    logger.info("%s: %s pictures (%s decoded) are streamed", source.name, f"{total:,}", size)
    splits = {}
    for name, (each, part) in found.items():
        index, label = counted[name] if name in counted else _kept(each, part, numbers)
        rows = Rows(each, index, get_policy(data), shape)
        splits[name] = streamed_split(rows, label, f"{source.name} {name}", max_bytes)
    return splits


def _kept(stored: Stored, part: Part, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(records, new labels) of the rows of a part whose label is kept."""
    label = stored.labels()[part.indices]
    bad = np.flatnonzero((label < 0) | (label >= len(numbers)))
    if bad.size:
        name = stored.name(int(part.indices[bad[0]]))
        raise RunError(
            f"{name} has label {label[bad[0]]}, outside 0..{len(numbers) - 1}; mend it, or choose another split"
        )
    new = numbers[label]
    return part.indices[new >= 0], new[new >= 0].astype(np.int32)


def _first_shape(source: Source, found: Mapping[str, tuple[Stored, Part]], data: Config) -> tuple[int, int, int]:
    """(H, W, C) of the first picture that can be read."""
    policy, first = get_policy(data), ""
    for stored, part in found.values():
        for index in part.indices[:100].tolist():
            try:
                height, width, channels = decode(stored.read(index), policy, stored.mode).shape
                return height, width, channels
            except UsageError as error:  # a ValueError too, but of the config, not of the picture
                raise UsageError(f"{stored.name(index)}: {error}") from None
            except (OSError, ValueError) as error:
                first = first or f"{stored.name(index)} ({why(error)})"
    raise RunError(f"no picture of {source.name} can be read: {first}; check config.data.source")
