# SPDX-License-Identifier: Apache-2.0
"""What a data set is like, told before training: how many of each class, and what that asks for."""

from collections.abc import Mapping, Sequence

import numpy as np

from cnnjax.errors import UsageError
from cnnjax.report.table import format_count, format_table
from cnnjax.types import Config, Dataset

SMALL = 2000  # pictures; below, one test set is too small a sample of what the network can do
UNEVEN = 1.5  # largest class / smallest, from where on the classes are told to be uneven
MOST_CLASSES = 20  # rows of the table
_KINDS = {"L": "gray", "1": "black and white", "RGB": "colour", "P": "palette", "RGBA": "transparent", "CMYK": "CMYK"}


def class_counts(dataset: Dataset) -> Mapping[str, np.ndarray]:
    """Pictures of each class, [K] integers, by split."""
    return {name: np.bincount(s.label, minlength=len(dataset.label_names)) for name, s in dataset.splits.items()}


def check_classes(dataset: Dataset) -> None:
    """Raises UsageError when the training set lacks a class, as it must with fewer pictures than classes."""
    count = class_counts(dataset)["train"]
    lacking = [name for name, number in zip(dataset.label_names, count, strict=True) if not number]
    if lacking:
        few = count.sum() < len(count)
        why = f"{count.sum()} pictures for {len(count)} classes" if few else f"none of {', '.join(lacking[:3])}"
        raise UsageError(
            f"the training split of {dataset.name} has {why}; add pictures, or name the classes to keep in "
            "config.data.labels"
        )


def overview(dataset: Dataset, data: Config) -> str:
    """Counts by class and split, and what they ask for: a table and lines of advice, to be read before training.

    Args:
      dataset: as it is trained on.
      data: config.data.
    """
    counts = class_counts(dataset)
    table = counts_table(counts, dataset.label_names)
    return "\n".join([table, *_advice(counts["train"], sum(int(count.sum()) for count in counts.values()), data)])


def counts_table(counts: Mapping[str, np.ndarray], label_names: Sequence[str]) -> str:
    """Pictures of each class, [K] integers by split, as a table; the largest classes first."""
    order = np.argsort(-counts.get("train", next(iter(counts.values()))), kind="stable")
    rows = [(label_names[k], *(format_count(int(count[k])) for count in counts.values())) for k in order[:MOST_CLASSES]]
    if len(order) > MOST_CLASSES:
        rest = order[MOST_CLASSES:]
        rows.append(
            (f"{len(rest)} smaller classes", *(format_count(int(count[rest].sum())) for count in counts.values()))
        )
    rows.append(("all", *(format_count(int(count.sum())) for count in counts.values())))
    return format_table(("class", *counts), rows, "l" + "r" * len(counts))


def mixture(stored: Mapping[tuple[int, int, str], int], made: tuple[int, ...]) -> str:
    """What pictures of several sizes or kinds were like, and what became of them; "" where all were alike.

    Args:
      stored: pictures by height, width and PIL mode.
      made: [H,W,C] that all have now.
    """
    if len(stored) < 2:
        return ""
    sizes = sorted({(height, width) for height, width, _ in stored}, key=lambda size: (size[0] * size[1], size))
    modes: dict[str, int] = {}
    for (_, _, mode), count in stored.items():
        modes[_KINDS.get(mode, mode)] = modes.get(_KINDS.get(mode, mode), 0) + count
    size = " to ".join(f"{height}x{width}" for height, width in dict.fromkeys([sizes[0], sizes[-1]]))
    kinds = ", ".join(f"{format_count(count)} {kind}" for kind, count in sorted(modes.items(), key=lambda m: -m[1]))
    different = f"{format_count(len(sizes))} sizes, " if len(sizes) > 1 else ""
    return f"{different}{size} pixels (height x width), {kinds}; all made {'x'.join(map(str, made))}"


def is_uneven(count: np.ndarray) -> bool:
    """Whether the largest class has UNEVEN times the pictures of the smallest."""
    return bool(count.max() > UNEVEN * count.min())


def _advice(count: np.ndarray, total: int, data: Config) -> list[str]:
    lines = []
    if is_uneven(count) and not data.balance:
        lines.append(
            f"the largest class has {count.max() / max(count.min(), 1):.1f} times the pictures of the smallest: always "
            f"answering it is right for {100 * count.max() / count.sum():.1f}%; see config.task.class_weights and "
            "config.data.balance"
        )
    if total < SMALL and not data.folds:
        lines.append(
            f"{format_count(total)} pictures are few: numbers of one test set are rough; config.data.folds=5 "
            "cross-validates, config.init_from starts from a trained network"
        )
    return lines
