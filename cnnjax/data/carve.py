# SPDX-License-Identifier: Apache-2.0
"""Which records of a source are train, validation and test: seeded rules on sizes alone.

Independent of config.seed, of the labels and of everything but the split seed, the fractions and the
sizes, so that every run of an experiment, whatever its seed, holds out the same pictures.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cnnjax.data.order import permutation
from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.types import Config

WHOLE = "all"
"""What a source calls its only split when its publisher made none."""

VALIDATION_NAMES = ("validation", "val", "valid")

# Second words of the generator's key; epochs, which share the generator, never come so far.
_TEST_KEY, _VALIDATION_KEY, _SUBSET_KEY = 2**64 - 1, 2**64 - 2, 2**64 - 3

_SLICE = re.compile(r"(?P<name>[^\[\]]+)\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\]")


class Part(NamedTuple):
    """Some records of one split of a source."""

    split: str  # the source's name
    indices: np.ndarray  # [N] int64, sorted


def carve(sizes: Mapping[str, int], data: Config) -> dict[str, Part]:
    """Divides a source's splits into `train`, `validation` and `test`.

    - train is `data.train_split`; a source whose only split is "all" gives that for "train".
    - test is `data.test_split`. Where the source has none, the split called validation, val or valid serves
      as test, being the one that was set apart by its publisher. Where it has neither, `data.test_fraction`
      of train is carved off.
    - validation is the source's split of that name, unless it serves as test or train; else
      `data.validation_fraction` of what is left of train. So the test set never chooses a checkpoint.

    A fraction of 0 carves nothing, and that split is left out of the result. With `data.folds` there is train alone,
    to be divided by class.

    Args:
      sizes: number of records by the source's split names.
      data: config.data; reads train_split, test_split, validation_fraction, test_fraction, split_seed and folds.

    Returns:
      Parts by `train`, `validation`, `test`, no two sharing a record.

    Raises:
      UsageError: a split is unknown, two splits overlap, or a fraction is outside [0, 1).
      RunError: there are too few records to carve.
    """
    for key in ("validation_fraction", "test_fraction"):
        if not 0 <= data[key] < 1:
            raise UsageError(f"config.data.{key} is {data[key]}; set it to 0 or more and less than 1")
    train = _resolve(data.train_split, "train", sizes)
    if train is None:
        raise UsageError(f"{unknown('split', data.train_split, sizes)}; set config.data.train_split")
    if data.folds:
        return {"train": train}
    test = _resolve(data.test_split, "test", sizes)
    if test is None and data.test_split != "test":
        raise UsageError(f"{unknown('split', data.test_split, sizes)}; set config.data.test_split")
    spare = [name for name in VALIDATION_NAMES if name in sizes and name != train.split]
    if test is None and spare:
        test = _whole(spare[0], sizes)
    if test is None:
        train, test = _carved(train, data.test_fraction, (data.split_seed, _TEST_KEY))
    spare = [name for name in spare if test is None or name != test.split]
    if spare:
        validation = _whole(spare[0], sizes)
    else:
        train, validation = _carved(train, data.validation_fraction, (data.split_seed, _VALIDATION_KEY))
    if test is not None and test.split == train.split and np.intersect1d(train.indices, test.indices).size:
        raise UsageError(
            f"config.data.train_split {data.train_split!r} and config.data.test_split {data.test_split!r} "
            "share pictures; choose splits that do not overlap"
        )
    parts = {"train": train, "validation": validation, "test": test}
    return {name: part for name, part in parts.items() if part is not None}


def stratified(label: np.ndarray, count: int, num_classes: int, seed: int) -> np.ndarray:
    """`count` rows drawn so that the classes keep their shares, each at least once: [count] integers, ascending.

    A larger count with the same seed holds the smaller one's rows.

    Args:
      label: [N] integers in [0, K).
      count: 1 to N.
      num_classes: K.
      seed: config.data.split_seed.

    Raises:
      UsageError: fewer rows than classes, or more than there are.
    """
    if count > len(label):
        raise UsageError(f"config.data.train_examples is {count}, but the training set has {len(label)} pictures")
    if count < num_classes:
        raise UsageError(
            f"config.data.train_examples is {count}, but there are {num_classes} classes: give a picture each at least"
        )
    order = permutation(len(label), (seed, _SUBSET_KEY))
    place = np.empty(len(label))  # in 0..1, as if each class were spread evenly; a class's first comes before all
    for each in range(num_classes):
        rows = order[label[order] == each]
        place[rows] = (np.arange(len(rows)) + 0.5) / max(len(rows), 1)
        place[rows[:1]] = -1
    return np.sort(order[np.argsort(place[order], kind="stable")][:count])


def _whole(name: str, sizes: Mapping[str, int]) -> Part:
    return Part(name, np.arange(sizes[name]))


def _resolve(spec: str, role: str, sizes: Mapping[str, int]) -> Part | None:
    """The records that `spec` names ("train", "train[:10%]", "train[-500:]"); None when there is no such split."""
    if spec in sizes:  # first, because a source may offer a slice under its own name
        return _whole(spec, sizes)
    match = _SLICE.fullmatch(spec)
    name = match["name"] if match else spec
    if name == role == "train" and WHOLE in sizes:
        name = WHOLE
    if name not in sizes:
        return None
    part = _whole(name, sizes)
    if match:
        start, stop = (_bound(match[side], sizes[name]) for side in ("start", "stop"))
        part = Part(name, part.indices[start:stop])
    if not len(part.indices):
        raise UsageError(f"config.data.{role}_split {spec!r} holds no pictures ({name!r} has {sizes[name]})")
    return part


def _bound(text: str | None, size: int) -> int | None:
    if text is None:
        return None
    return round(int(text[:-1]) * size / 100) if text.endswith("%") else int(text)


def _carved(part: Part, fraction: float, key: tuple[int, int]) -> tuple[Part, Part | None]:
    """(what is left, what was carved off), the latter at least one record and None for a fraction of 0."""
    size = len(part.indices)
    count = max(1, round(fraction * size)) if fraction > 0 else 0
    if count >= size:
        raise RunError(f"split {part.split!r} has too few pictures ({size}) to carve others from; add pictures")
    chosen = np.zeros(size, bool)
    chosen[permutation(size, key)[:count]] = True
    return Part(part.split, part.indices[~chosen]), Part(part.split, part.indices[chosen]) if count else None
