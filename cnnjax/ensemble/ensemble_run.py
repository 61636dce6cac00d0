# SPDX-License-Identifier: Apache-2.0
"""An ensemble in its folder: a run for each member, and what they say together."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnjax import workdir as folder
from cnnjax.config import MEMBERS_FILE
from cnnjax.ensemble.configs import member_configs
from cnnjax.ensemble.spread import check_same_members, mean_and_std
from cnnjax.ensemble.training import read_diverged, train_together
from cnnjax.errors import RunError
from cnnjax.evaluate import combined, judge
from cnnjax.experiment import build_logits, load_network
from cnnjax.metrics import format_metric
from cnnjax.parts import Parts, build
from cnnjax.report.environment import write_json
from cnnjax.report.table import format_count, format_duration, format_table
from cnnjax.tasks import make_task
from cnnjax.types import Config

logger = logging.getLogger(__name__)


def train_ensemble(config: Config, workdir: str, *, accept_changes: bool = False) -> str:
    """Trains the members of `config` in `workdir`/member0, ... to their last steps; returns the results as text.

    Raises:
      UsageError, RunError: as of a single run, and when a member has diverged; what is saved stays.
      Stop: a signal ended the runs early.
    """
    started = time.perf_counter()
    path = Path(workdir).expanduser()
    configs = member_configs(config)
    names = [f"member{i}" for i in range(len(configs))]
    folder.check_kind(path, "ensemble")
    if (path / MEMBERS_FILE).exists():
        check_same_members(path, config, accept_changes=accept_changes)
    parts = build(configs[0])  # what is wrong with the config is told before there is a folder
    with folder.hold(path):
        write_json(path / MEMBERS_FILE, {"kind": "ensemble", "members": names, "config": json.loads(config.to_json())})
        train_together(parts, configs, [path / name for name in names], accept_changes=accept_changes)
        results = _results(parts, path, configs, names)
        write_json(path / folder.RESULTS_FILE, results)
    lost = [text for name in names if (text := read_diverged(path / name))]
    if lost:
        others = (
            f"the other {len(names) - len(lost)} are trained, in {path}" if len(names) > len(lost) else "none is left"
        )
        raise RunError(f"{len(lost)} of {len(names)} members diverged; {others}. {lost[0]}")
    told = f"{path / folder.RESULTS_FILE}  the table above\n{path / names[0]}/report.html  a member on one page"
    return f"{_table(results)}\n\n{told}\nDone in {format_duration(time.perf_counter() - started)}."


def _results(parts: Parts, path: Path, configs: Sequence[Config], names: Sequence[str]) -> dict[str, Any]:
    """Of each split the metrics of each member, their mean and standard deviation, and those of the ensemble."""
    trained = [i for i, name in enumerate(names) if (path / name / folder.RESULTS_FILE).exists()]
    members = {names[i]: folder.read_results(path / names[i]) for i in trained}
    results: dict[str, Any] = {
        "kind": "ensemble",
        "members": [{"name": names[i], "seed": configs[i].seed, **members[names[i]]} for i in trained],
        "diverged": [name for i, name in enumerate(names) if i not in trained],
    }
    if not trained:
        return results
    splits = next(iter(members.values()))["last"]
    results |= mean_and_std(list(members.values()))
    if "accuracy" in next(iter(splits.values())):
        results["ensemble"] = {split: _together(parts, path, [names[i] for i in trained], split) for split in splits}
    return results


def _together(parts: Parts, path: Path, names: Sequence[str], split: str) -> dict[str, float]:
    """The metrics of what the members say together, averaged and shown the pictures as `config.eval` says."""
    config, load = parts.config, parts.loads[split]
    shape = parts.dataset.splits["train"].image.shape[1:]
    program = build_logits(config, parts.training.model, shape, parts.mesh)
    networks = [load_network(str(path / name)) for name in names]
    logits = combined([program(each.params, each.model_state, load) for each in networks], config.eval.averaging)
    task = make_task(config.task, config.data, train=False)
    return judge(logits, load(config.data).label, task).summary()


def _table(results: dict[str, Any]) -> str:
    """The results by member, split and metric."""
    members = results["members"]
    splits = members[0]["last"] if members else {}
    parts = []
    for split, metrics in splits.items():
        header = (split, "seed", "step", *(name.replace("_", " ") for name in metrics))
        rows: list[Sequence[object] | None] = [
            (m["name"], m["seed"], format_count(m["step"]), *(format_metric(n, m["last"][split][n]) for n in metrics))
            for m in members
        ]
        rows += [None, ("mean", "", "", *(format_metric(n, results["mean"][split][n]) for n in metrics))]
        rows.append(("std", "", "", *(format_metric(n, results["std"][split][n]) for n in metrics)))
        if "ensemble" in results:
            rows.append(("ensemble", "", "", *(format_metric(n, results["ensemble"][split][n]) for n in metrics)))
        parts.append(format_table(header, rows, "lrr" + "r" * len(metrics)))
    return "\n\n".join(parts)
