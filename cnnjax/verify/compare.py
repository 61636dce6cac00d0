# SPDX-License-Identifier: Apache-2.0
"""How far two runs are apart: every array of the last checkpoint, every number of the log."""

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cnnjax.checkpoint import Checkpoints
from cnnjax.errors import RunError
from cnnjax.report.log import read_metrics
from cnnjax.workdir import RESULTS_FILE

TIMES = frozenset({"seconds", "compile_seconds", "images_per_second", "data_wait"})
"""What may differ from run to run."""


class Outcome(NamedTuple):
    """What a run ended with.

    Attributes:
      arrays: of the last checkpoint, by path.
      numbers: of the log and the results, by step, split and name, times left out; a name or two among them.
    """

    arrays: dict[str, np.ndarray]
    numbers: dict[str, Any]


def outcome(workdir: Path) -> Outcome:
    """Reads what a run ended with.

    Raises:
      RunError: there is no checkpoint, or it is damaged.
    """
    with contextlib.closing(Checkpoints(workdir)) as checkpoints:
        step = checkpoints.latest()
        if step is None:
            raise RunError(f"{workdir} holds no checkpoint to compare")
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), checkpoints.shapes(step))
        leaves = jax.tree_util.tree_leaves_with_path(checkpoints.restore(like, step))
    arrays = {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}
    numbers = {}
    for record in read_metrics(workdir):
        at = f"{record['step']} {record['split']}"
        numbers |= {f"{at} {name}": value for name, value in record.items() if name not in (*TIMES, "step", "split")}
    results = json.loads((workdir / RESULTS_FILE).read_text())
    numbers |= _flat({name: part for name, part in results.items() if name != "seconds"}, "results")
    return Outcome(arrays, numbers)


def first_difference(a: Outcome, b: Outcome) -> str | None:
    """The name of something that is not the same to the bit in both; None when all is."""
    for left, right in ((a.arrays, b.arrays), (a.numbers, b.numbers)):
        for name in sorted({*left, *right}):
            if name not in left or name not in right or not _same(left[name], right[name]):
                return name
    return None


def largest_difference(a: Outcome, b: Outcome) -> float:
    """The largest distance of two values of an array, in units of its largest value; 0 when all are equal."""
    return max((_distance(value, b.arrays[name]) for name, value in a.arrays.items() if name in b.arrays), default=0.0)


def numbers_apart(a: Outcome, b: Outcome) -> float:
    """The largest relative distance of a logged number; accuracies are left out, which move by whole examples."""
    pairs = [
        (a.numbers.get(name, math.nan), b.numbers.get(name, math.nan))
        for name in {*a.numbers, *b.numbers}
        if not name.endswith("accuracy")
    ]
    return max(_distance(np.asarray(x), np.asarray(y)) for x, y in pairs if not isinstance(x, str))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    if not a.size or a.shape != b.shape:
        return 0.0 if a.shape == b.shape else float("inf")
    left, right = a.astype(np.float64), b.astype(np.float64)
    apart = float(np.abs(left - right).max())
    if not np.isfinite(apart):
        return 0.0 if _same(a, b) else float("inf")
    return apart / max(float(np.abs(left).max()), float(np.abs(right).max())) if apart else 0.0


def _same(a: Any, b: Any) -> bool:
    left, right = np.asarray(a), np.asarray(b)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def _flat(tree: Mapping[str, Any], at: str) -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{at} {name}") if isinstance(value, Mapping) else {f"{at} {name}": value}
    return flat
