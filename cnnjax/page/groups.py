# SPDX-License-Identifier: Apache-2.0
"""Runs that are equal but for their seed, taken together."""

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnnjax.config import flatten
from cnnjax.page.record import METRICS, RunRecord, differing
from cnnjax.report.environment import to_plain

SEED = "seed"  # the key in which runs of one group may differ
_TELLING = ("model", "data", "optimizer", "schedule", "augment", "task", "train", "seed")  # sections of a config


class Group(NamedTuple):
    """Runs that differ in their seed alone.

    Attributes:
      name: what sets it apart.
      runs: by seed.
      judged_by: (metric, split) of their results: of the first that is finished, else of the first; None without any.
      results: of the runs that are judged by that.
      mean: of the results; NaN without any.
      std: sample standard deviation; NaN of fewer than two.
    """

    name: str
    runs: tuple[RunRecord, ...]
    judged_by: tuple[str, str] | None
    results: tuple[float, ...]
    mean: float
    std: float


def make_groups(runs: Sequence[RunRecord]) -> list[Group]:
    """The runs grouped by their config without the seed, the best mean first, groups without a result last."""
    by_config: dict[str, list[RunRecord]] = {}
    for run in runs:
        flat = {key: value for key, value in flatten(run.config).items() if key != SEED}
        by_config.setdefault(json.dumps(to_plain(flat)), []).append(run)
    members = [sorted(group, key=lambda run: run.config.seed) for group in by_config.values()]
    groups = []
    for name, group in zip(_name_groups(members), members, strict=True):
        # A run that still goes on has a result on validation, which does not belong into a mean over test results.
        finished_first = sorted(group, key=lambda run: run.status != "finished")
        judged_by = next((_judged_by(run) for run in finished_first if run.result), None)
        found = tuple(run.result.value for run in group if run.result and _judged_by(run) == judged_by)
        mean = float(np.mean(found)) if found else math.nan
        std = float(np.std(found, ddof=1)) if len(found) > 1 else math.nan
        groups.append(Group(name, tuple(group), judged_by, found, mean, std))
    return sorted(groups, key=_rank)


def _judged_by(run: RunRecord) -> tuple[str, str] | None:
    return (run.result.metric, run.result.split) if run.result else None


def _rank(group: Group) -> tuple[int, float]:
    """What is judged by one number stands together, the best first."""
    if group.judged_by is None:
        return len(METRICS), 0.0
    metric, _ = group.judged_by
    return METRICS.index(metric), group.mean if metric == "loss" else -group.mean


def _name_groups(members: Sequence[Sequence[RunRecord]]) -> list[str]:
    """A run by its folder; several by what their folders' names share, or else by what sets them apart."""
    keys = [key for key in differing(group[0].config for group in members) if key != SEED]
    keys.sort(key=lambda key: (key != "model.name", _TELLING.index(key.partition(".")[0])))
    shared = [_common_start([run.name for run in group]).rstrip("_-./ 0123456789") for group in members]
    names = [group[0].name if len(group) == 1 else start for group, start in zip(members, shared, strict=True)]
    flat = [flatten(group[0].config) for group in members]
    telling = [[_assigned(key, config) for key in keys if config.get(key) is not None] for config in flat]
    doubtful = [i for i, name in enumerate(names) if not name or names.count(name) > 1]
    for count in range(1, 4):  # as many keys as it takes
        for i in doubtful:
            names[i] = ", ".join(telling[i][:count]) or members[i][0].name
        doubtful = [i for i in doubtful if names.count(names[i]) > 1]
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, start=1)]


def _common_start(names: Sequence[str]) -> str:
    low, high = min(names), max(names)
    return low[: next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))]


def _assigned(key: str, flat: dict[str, object]) -> str:
    value = str(to_plain(flat.get(key)))
    return value if key == "model.name" else f"{key.rpartition('.')[2]}={value}"
