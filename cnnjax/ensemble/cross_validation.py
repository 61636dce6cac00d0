# SPDX-License-Identifier: Apache-2.0
"""Cross-validation in a folder: a run for each fold, one after the other, and what they come to."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnjax import workdir as folder
from cnnjax.config import MEMBERS_FILE
from cnnjax.data.folds import num_folds
from cnnjax.ensemble.configs import with_values
from cnnjax.ensemble.spread import check_same_members, mean_and_std
from cnnjax.metrics import format_metric
from cnnjax.parts import build
from cnnjax.report.environment import write_json
from cnnjax.report.table import format_duration, format_table
from cnnjax.training_run import train_run
from cnnjax.types import Config

KIND = "cross-validation"


def is_divided(config: Config) -> bool:
    """Whether `config` asks for all folds of a cross-validation."""
    return num_folds(config.data) > 0 and config.data.fold < 0


def train_folds(config: Config, workdir: str, *, accept_changes: bool = False) -> str:
    """Trains and tests each fold of `config` in `workdir`/fold0, ...; returns the results as text.

    The same command goes on where it was stopped. `results.json` has each fold's metrics, their mean and their
    standard deviation over the runs; folds share training pictures, so that is no standard error.

    Raises:
      UsageError, RunError: as of a single run; what is saved stays.
      Stop: a signal ended it early.
    """
    started = time.perf_counter()
    path = Path(workdir).expanduser()
    configs = [with_values(config, {"data.fold": i}) for i in range(num_folds(config.data))]
    names = [f"fold{i}" for i in range(len(configs))]
    folder.check_kind(path, KIND)
    if (path / MEMBERS_FILE).exists():
        check_same_members(path, config, accept_changes=accept_changes)
    build(configs[0])  # what is wrong with the config is told before there is a folder
    with folder.hold(path):
        write_json(path / MEMBERS_FILE, {"kind": KIND, "members": names, "config": json.loads(config.to_json())})
        for fold, name in zip(configs, names, strict=True):
            train_run(fold, str(path / name), accept_changes=accept_changes)
        found = [folder.read_results(path / name) for name in names]
        members = [{"name": name, **results} for name, results in zip(names, found, strict=True)]
        results = {"kind": KIND, "folds": config.data.folds, "members": members, **mean_and_std(found)}
        write_json(path / folder.RESULTS_FILE, results)
    told = f"{path / folder.RESULTS_FILE}  the table above\n{path / names[0]}/report.html  a fold on one page"
    return f"{_table(results)}\n\n{told}\nDone in {format_duration(time.perf_counter() - started)}."


def _table(results: dict[str, Any]) -> str:
    """The test results of each fold, their mean and standard deviation."""
    metrics = list(results["mean"]["test"])

    def row(name: str, values: dict[str, float]) -> Sequence[object]:
        return (name, *(format_metric(metric, values[metric]) for metric in metrics))

    rows: list[Sequence[object] | None] = [row(m["name"], m["last"]["test"]) for m in results["members"]]
    rows += [None, row(f"mean of {len(rows)}", results["mean"]["test"]), row("std", results["std"]["test"])]
    return format_table(("test", *(name.replace("_", " ") for name in metrics)), rows, "l" + "r" * len(metrics))
