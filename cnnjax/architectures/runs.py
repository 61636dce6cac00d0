# SPDX-License-Identifier: Apache-2.0
"""The user's own runs as points: accuracy from results.json, parameters and multiply-adds counted on the network."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cnnjax.architectures.points import RUN, Point, spell
from cnnjax.config import Config, difference, load_run_config
from cnnjax.errors import CnnjaxError, RunError
from cnnjax.experiment import build_model
from cnnjax.inspect.summary import summarize
from cnnjax.workdir import RESULTS_FILE, DatasetInfo, dataset_info, read_results

FAMILY = "your run"


class Run(NamedTuple):
    """A run that has been trained to its end."""

    path: Path
    config: Config
    info: DatasetInfo
    accuracy: float  # in 0..1
    split: str  # that it was measured on
    step: int


def read_run(path: Path) -> Run:
    """The accuracy of a run at its last step, on the test split where there is one, else on validation.

    Raises:
      RunError: no run, none that has ended, or one whose network does not classify.
    """
    config, info = load_run_config(path), dataset_info(path)
    file = path / RESULTS_FILE
    if not file.is_file():
        raise RunError(f"{path} has no accuracy yet: {RESULTS_FILE} is written when training ends")
    try:
        results = read_results(path)
        step, last = int(results["step"]), dict(results["last"])
        splits = [name for name in ("test", "validation") if name in last]
        accuracies = {name: last[name].get("accuracy") for name in splits}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"cannot read {file}: {type(error).__name__}: {error}") from error
    for split, accuracy in accuracies.items():
        if isinstance(accuracy, int | float) and 0 <= accuracy <= 1:
            return Run(path, config, info, float(accuracy), split, step)
    if splits:
        raise RunError(f"{path} has no accuracy: its task is {config.task.name}, and only classifiers are compared")
    raise RunError(f"{path} has no accuracy: it was evaluated on neither a test nor a validation split")


def read_runs(paths: Sequence[Path]) -> tuple[list[tuple[str, tuple[str, ...], Point]], list[str]]:
    """The points of runs with their data set, runs that differ in the seed only as one, and why others are left out.

    Returns:
      ((name of the data set, names of its classes, point) each, one line for each run left out).
    """
    runs, left_out = [], []
    for path in paths:
        try:
            runs.append(read_run(path))
        except CnnjaxError as error:
            left_out.append(str(error))
    points = []
    for group in group_by_seed(runs):
        try:
            points.append((group[0].info.name, group[0].info.label_names, make_point(group)))
        except CnnjaxError as error:
            left_out += [f"{run.path}: {error}" for run in group]
    return points, left_out


def group_by_seed(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of equal configs and data up to `config.seed`, together; a run given twice counts once."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            first = group[0]
            changed = {key for key, _, _ in difference(first.config, run.config)}
            if changed <= {"seed"} and first.info == run.info and first.split == run.split:
                if all(run.config.seed != other.config.seed for other in group):
                    group.append(run)
                break
        else:
            groups.append([run])
    return groups


def make_point(group: Sequence[Run]) -> Point:
    """One point of runs that differ in the seed only: the mean of their accuracies, and its spread.

    Raises:
      UsageError: the network cannot be built or traced, as when its file is gone.
      RunError: it has no parameters, or multiplies nothing.
    """
    first = group[0]
    model = build_model(first.config, len(first.info.label_names))
    arguments = first.config.model.to_dict()
    network = spell(arguments.pop("name"), arguments)
    summary = summarize(model, first.info.image_shape, first.config.model.name)
    if not summary.macs or not summary.params:
        raise RunError(f"its network {network} has no multiply-adds or no parameters to be compared by")
    accuracies = [run.accuracy for run in group]
    name = first.path.expanduser().resolve().name if first.path.name in ("", "..") else first.path.name
    count = f"mean of {len(group)} seeds, " if len(group) > 1 else ""
    paths = ", ".join(str(run.path) for run in group)
    return Point(
        f"{name} (n={len(group)})" if len(group) > 1 else name,
        RUN,
        FAMILY,
        statistics.fmean(accuracies),
        statistics.stdev(accuracies) if len(group) > 1 else None,
        len(group),
        summary.params,
        summary.macs,
        first.info.image_shape,
        network,
        f"{count}{first.split} split of {first.info.name} at step {first.step:,}: {RESULTS_FILE} in {paths}",
        "",
        model,
    )
