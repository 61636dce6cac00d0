# SPDX-License-Identifier: Apache-2.0
"""Repeated, stratified cross-validation of a small set: every picture is tested once in each repeat.

Reference: Kohavi 1995, A study of cross-validation and bootstrap for accuracy estimation and model selection, IJCAI.
"""

from collections.abc import Sequence

import numpy as np

from cnnjax.data.order import permutation
from cnnjax.data.streamed import select
from cnnjax.errors import RunError, UsageError
from cnnjax.types import Config, Split

# Second words of the generator's key, one a repeat; epochs, which share the generator, never come so far.
_FOLD_KEY = 2**63


def num_folds(data: Config) -> int:
    """Runs of the whole cross-validation: folds times repeats; 0 where there is none.

    Raises:
      UsageError: one fold, or a `data.fold` that is not there.
    """
    count = data.folds * data.fold_repeats
    if data.folds == 1:
        raise UsageError("config.data.folds is 1, which leaves nothing to train on; set it to 2 or more, or 0 for none")
    if data.fold >= max(count, 1):
        raise UsageError(
            f"config.data.fold is {data.fold}, but {data.folds} folds x {data.fold_repeats} repeats make {count}; "
            "0 is the first"
        )
    return count


def divide(split: Split, label_names: Sequence[str], data: Config) -> dict[str, Split]:
    """The `train`, `validation` and `test` examples of fold `data.fold`, classes in their shares.

    Fold `f` of repeat `r` is number `r * folds + f`; each repeat divides the set anew. `data.validation_fraction` of
    what is not tested becomes validation, and 0 leaves it out.

    Args:
      split: all pictures of the set, N.
      label_names: K names.
      data: config.data; reads folds, fold_repeats, fold, split_seed and validation_fraction.

    Raises:
      RunError: fewer pictures of a class than folds.
    """
    repeat, fold = divmod(data.fold, data.folds)
    count = np.bincount(split.label, minlength=len(label_names))
    if count.min() < data.folds:
        raise RunError(
            f"the class {label_names[int(count.argmin())]} has {count.min()} pictures, too few for {data.folds} "
            "folds; add pictures, or lower config.data.folds"
        )
    order = permutation(len(split.label), (data.split_seed, _FOLD_KEY + repeat))
    by_class = order[np.argsort(split.label[order], kind="stable")]
    tested = np.arange(len(order)) % data.folds == fold  # of neighbours in one class, one goes to each fold
    rest = by_class[~tested]
    share = np.floor(data.validation_fraction * np.arange(len(rest) + 1))
    validated = np.diff(share) > 0
    rows = {"train": rest[~validated], "validation": rest[validated], "test": by_class[tested]}
    return {name: select(split, own) for name, own in _sorted(rows).items() if len(own)}


def _sorted(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.sort(own) for name, own in rows.items()}
