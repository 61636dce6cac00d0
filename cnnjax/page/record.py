# SPDX-License-Identifier: Apache-2.0
"""What a run's folder tells without its data: config, environment, records, results, and whether it still goes on."""

import os
import shlex
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.config import CONFIG_FILE, MEMBERS_FILE, flatten, load_config, load_run_config
from cnnjax.errors import RunError
from cnnjax.jsonfile import read_object
from cnnjax.page.times import Times, measure
from cnnjax.report.log import METRICS_FILE, TENSORBOARD_FOLDER, read_metrics
from cnnjax.types import Config
from cnnjax.workdir import ENVIRONMENT_FILE, RESULTS_FILE, DatasetInfo, dataset_info, read_results

METRICS = ("accuracy", "psnr", "loss")
"""What a run is judged by: the first of these that it has."""
_SPLITS = ("test", "validation")
_DEFAULT = Path(__file__).parents[2] / "experiments/default.py"


class Result(NamedTuple):
    """The number that a run is judged by."""

    metric: str
    value: float
    split: str
    step: int


class RunRecord(NamedTuple):
    """A run.

    Attributes:
      path: its folder.
      name: what to call it.
      config: resolved.
      environment: as `environment.json` has it; {} when that is not there.
      info: of the data.
      records: of `metrics.jsonl`.
      results: as `results.json` has it; None before the end.
      status: "finished", "running" or "stopped".
      result: of the last step tested, or the last evaluation so far; None before the first.
      times: None before the first record.
    """

    path: Path
    name: str
    config: Config
    environment: dict[str, Any]
    info: DatasetInfo
    records: list[dict[str, Any]]
    results: dict[str, Any] | None
    status: str
    result: Result | None
    times: Times | None

    @property
    def step(self) -> int:
        """The last one recorded."""
        return max((record["step"] for record in self.records), default=0)


def read_run(path: Path, name: str | None = None) -> RunRecord:
    """Reads a run's folder.

    Raises:
      RunError, UsageError: there is no run in it, or one of its files is damaged.
    """
    config: Config = load_run_config(path)
    info = dataset_info(path)
    environment = read_object(path / ENVIRONMENT_FILE) if (path / ENVIRONMENT_FILE).exists() else {}
    results = read_results(path) if (path / RESULTS_FILE).exists() else None
    records = read_metrics(path) if (path / METRICS_FILE).exists() else []
    step = max((record["step"] for record in records), default=0)
    try:
        # A run that goes on after its end, with more steps, keeps the old results until its new end.
        finished = results is not None and results["step"] >= step
        result = _result(results if finished else None, records)
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise RunError(f"{path / RESULTS_FILE} holds no results: remove it and train on") from error
    status = "finished" if finished else "running" if is_running(path, environment) else "stopped"
    times = measure(path, records, config.data.batch_size, environment.get("start_time"))
    name = name or path.expanduser().resolve().name
    return RunRecord(
        path, name, config, environment, info, records, results if finished else None, status, result, times
    )


def find_runs(folder: Path) -> list[Path]:
    """The folders at and below `folder` that hold a run or the remains of one, sorted.

    Raises:
      RunError: `folder` is not there.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; give one with runs in it")
    found = []
    for place, below, files in os.walk(folder):
        # The folder of an ensemble or a sweep has results, too, but its runs lie below.
        if {CONFIG_FILE, METRICS_FILE, RESULTS_FILE}.intersection(files) and MEMBERS_FILE not in files:
            found.append(Path(place))
            below.clear()
        below[:] = [name for name in below if not name.startswith(".")]
    return sorted(found)


def is_running(path: Path, environment: dict[str, Any]) -> bool:
    """Whether the process that writes to a run's folder is alive: on this machine, with the command noted there."""
    events = sorted((path / TENSORBOARD_FOLDER).glob("events.out.tfevents.*"))
    if not events:
        return False
    host_and_process = events[-1].name.removeprefix("events.out.tfevents.").split(".", 2)[-1]
    host, _, process = host_and_process.rpartition(".")
    if host != socket.gethostname() or not process.isdecimal() or len(process) > 9:
        return False
    try:
        os.kill(int(process), 0)
    except PermissionError:
        pass  # another user's, but there
    except OSError:
        return False
    try:  # where the system tells, its command must be the run's: numbers of processes are used again
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
    except OSError:
        return True
    return shlex.join(words) == environment.get("command")


def default_config() -> Config | None:
    """The defaults that a config is compared with: `experiments/default.py` beside the package, where it is."""
    # The package does not depend on the folder of experiments: installed by itself, it shows configs uncompared.
    return load_config(str(_DEFAULT)) if _DEFAULT.is_file() else None


def differing(configs: Iterable[Config]) -> list[str]:
    """The keys that are not the same in all configs, in their order."""
    flat = [flatten(config) for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config)
    return [key for key in keys if any(config.get(key) != flat[0].get(key) for config in flat)]


def _result(results: dict[str, Any] | None, records: list[dict[str, Any]]) -> Result | None:
    if results is not None:
        split = next(name for name in (*_SPLITS, *results["last"]) if name in results["last"])
        values, step = results["last"][split], results["step"]
    else:
        evaluations = [record for record in records if record["split"] in _SPLITS]
        if not evaluations:
            return None
        values = evaluations[-1]
        split, step = values["split"], values["step"]
    metric = next(name for name in METRICS if name in values)
    return Result(metric, float(values[metric]), split, step)
