# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a set of pictures, as packing it finds out."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnjax.data.overview import counts_table, is_uneven
from cnnjax.data.pack import CHECKS


class Checks(NamedTuple):
    """What was found in a set.

    Attributes:
      counts: pictures of each class that were packed, [K] integers, by split.
      unreadable: "file (reason)".
      duplicates: pairs of names, the second a copy of the first, byte for byte.
      across_splits: those of them in two splits: the network is tested on what it was trained on.
      two_labels: those of them with two labels.
    """

    counts: dict[str, np.ndarray]
    unreadable: list[str]
    duplicates: list[tuple[str, str]]
    across_splits: list[tuple[str, str]]
    two_labels: list[tuple[str, str]]


def told(checks: Checks, label_names: tuple[str, ...], out: Path) -> str:
    """What was found, for the user: counts by class, and lines on what to look at."""
    lines = [counts_table(checks.counts, label_names), ""]
    for split, count in checks.counts.items():
        if is_uneven(count):
            times = f"{count.max() / max(count.min(), 1):.1f} times the pictures"
            lines.append(f"{split}: the largest class has {times} of the smallest")
    for what, found in (
        ("pictures that cannot be read were left out", checks.unreadable),
        ("pictures are copies of others, byte for byte", checks.duplicates),
        ("of these are in two splits: the network is tested on what it is trained on", checks.across_splits),
        ("of these have two labels", checks.two_labels),
    ):
        if found:
            first = found[0] if isinstance(found[0], str) else " = ".join(found[0])
            lines.append(f"{len(found):,} {what}, as {first}")
    if checks.unreadable or checks.duplicates:
        lines.append(f"all of them: {out / CHECKS}")
    return "\n".join(lines)
