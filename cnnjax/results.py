# SPDX-License-Identifier: Apache-2.0
"""What came of a run: its last parameters tested, the results as a table, and where to find what."""

import logging
from pathlib import Path
from typing import Any

from cnnjax import pictures
from cnnjax.checkpoint import Checkpoints, DamagedCheckpoint
from cnnjax.evaluate import evaluated
from cnnjax.experiment import restore_evaluated
from cnnjax.metrics import Evaluation, format_metric
from cnnjax.parts import Parts
from cnnjax.report.log import METRICS_FILE
from cnnjax.report.table import format_count, format_table
from cnnjax.strips import FOLDER as STRIPS
from cnnjax.transfer.start import START_FILE
from cnnjax.types import TrainState
from cnnjax.workdir import RESULTS_FILE

logger = logging.getLogger(__name__)


def test(parts: Parts, state: TrainState, checkpoints: Checkpoints) -> tuple[dict[str, Any], Evaluation]:
    """Results of the last parameters, and of the best on validation if others; and the last split's evaluation."""
    step, best = int(state.step), checkpoints.best()
    evaluations = {split: run(*evaluated(state)) for split, run in parts.testers.items()}
    results: dict[str, Any] = {"step": step, "last": {name: e.summary() for name, e in evaluations.items()}}
    if parts.config.eval.protocol != "single":
        single = {split: run(*evaluated(state)).summary() for split, run in parts.evaluators.items()}
        results |= {"protocol": parts.config.eval.protocol, "single": single}
    if best is not None and best != step:
        try:
            chosen = restore_evaluated(checkpoints, parts.training.abstract_state, best)
        except DamagedCheckpoint as error:  # the last step's results are none the worse for it
            logger.warning("%s; the results are those of the last step alone", error)
        else:
            splits = {split: run(*chosen).summary() for split, run in parts.testers.items()}
            results["best"] = {"step": best, **splits}
    return results, list(evaluations.values())[-1]


def seconds(records: list[dict[str, Any]]) -> dict[str, float]:
    """What the run's steps took, compilation apart; sums over all sessions."""
    train = [record for record in records if record["split"] == "train"]
    names = {"train": "seconds", "compile": "compile_seconds"}
    return {name: sum(record.get(key, 0.0) for record in train) for name, key in names.items()}


def table(results: dict[str, Any]) -> str:
    """The results as text."""

    def row(name: str, step: int, values: dict[str, float]) -> tuple[str, ...]:
        return (name, format_count(step), *(format_metric(metric, values[metric]) for metric in shown))

    how = f" ({results['protocol']})" if "protocol" in results else ""

    shown = list(next(iter(results["last"].values())))
    rows = [row(f"{split}, last step{how}", results["step"], values) for split, values in results["last"].items()]
    if how:
        single = results["single"].items()
        rows += [row(f"{split}, last step (single)", results["step"], values) for split, values in single]
    if "best" in results:
        best = results["best"]
        rows += [row(f"{s}, best on validation{how}", best["step"], best[s]) for s in results["last"]]
    header = ("", "step", *(name.replace("_", " ") for name in shown))
    return format_table(header, rows, "l" + "r" * (len(header) - 1))


def written(path: Path) -> str:
    """Where to find what: the files of a run, with what each is."""
    files = (
        ("report.html", "all of this on one page"),
        (RESULTS_FILE, "the table above"),
        (START_FILE, "what was loaded from config.init_from"),
        (METRICS_FILE, "every logged number; also in tensorboard/"),
        (pictures.CURVES, "loss, learning rate, gradient norm, and accuracy where there is one"),
        (pictures.CONFUSION, "which classes are taken for which"),
        (pictures.MISTAKES, "the worst errors"),
        (pictures.RECONSTRUCTIONS, "pictures beside what the network made of them"),
        (STRIPS, "a few pictures above what the network made of them, at each evaluation"),
        ("checkpoints", "the last and the best parameters"),
    )
    return "\n".join(f"{path / name}  {what}" for name, what in files if (path / name).exists())
