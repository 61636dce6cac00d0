# SPDX-License-Identifier: Apache-2.0
"""Accuracy on corrupted pictures, by kind and strength."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from cnnjax.errors import UsageError, unknown
from cnnjax.protocols.corruptions import CORRUPTIONS, STRENGTHS, USUAL, corrupt
from cnnjax.protocols.intervals import mean_interval
from cnnjax.types import Split

Answer = Callable[[Callable[[Split], Split]], np.ndarray]
"""`answer(change)`: logits [N,K] of a split whose pictures `change` has changed."""


def corruption_names(text: str) -> tuple[str, ...]:
    """The kinds that `--corruptions` asks for: "usual", "all", or names with commas between them.

    Raises:
      UsageError: an unknown one.
    """
    if text == "all":
        return tuple(CORRUPTIONS)
    names = USUAL if text == "usual" else tuple(text.split(","))
    for name in names:
        if name not in CORRUPTIONS:
            raise UsageError(f"{unknown('corruption', name, CORRUPTIONS)}; or --corruptions=all")
    return names


def under_corruptions(answer: Answer, label: np.ndarray, kinds: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """Accuracies under each kind at strengths 1 to 5.

    Args:
      answer: of the network or ensemble.
      label: [N].
      kinds: of CORRUPTIONS.
      seed: of the noise.

    Returns:
      `clean`, the accuracy of the pictures as they are; `kinds`: for each its `accuracy` [5], their `interval` [5] and
      `mean`; `mean` over all kinds and strengths.
    """

    def right(change: Callable[[Split], Split]) -> np.ndarray:
        made: dict[int, Split] = {}  # all members of an ensemble see the pictures that were corrupted for the first

        def once(split: Split) -> Split:
            return made.get(id(split)) or made.setdefault(id(split), change(split))

        return answer(once).argmax(axis=1) == label

    found: dict[str, Any] = {}
    with tqdm(total=len(kinds) * STRENGTHS, desc="corruptions", disable=None) as bar:
        for kind in kinds:
            rows = []
            for strength in range(1, STRENGTHS + 1):
                rows.append(right(partial(_corrupted, kind=kind, strength=strength, seed=seed)))
                bar.update()
            accuracy = [float(row.mean()) for row in rows]
            found[kind] = {
                "accuracy": accuracy,
                "interval": [list(mean_interval(row)) for row in rows],
                "mean": float(np.mean(accuracy)),
            }
    return {
        "clean": float(right(lambda split: split).mean()),
        "kinds": found,
        "mean": float(np.mean([each["mean"] for each in found.values()])),
    }


def _corrupted(split: Split, kind: str, strength: int, seed: int) -> Split:
    return split._replace(image=corrupt(split.image, kind, strength, seed=seed))
