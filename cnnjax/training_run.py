# SPDX-License-Identifier: Apache-2.0
"""A training run in its folder: begin or go on, train, test, and write down what came of it."""

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnnjax import devices, pictures, processes, results
from cnnjax import workdir as folder
from cnnjax.checkpoint import FOLDER as CHECKPOINTS
from cnnjax.checkpoint import Checkpoints
from cnnjax.data.overview import overview
from cnnjax.evaluate import evaluated
from cnnjax.experiment import Training
from cnnjax.largest_batch import with_remedy
from cnnjax.members import Log, Member
from cnnjax.parts import Parts, build, headline
from cnnjax.report.environment import write_json
from cnnjax.report.log import read_metrics
from cnnjax.report.table import format_duration
from cnnjax.shared import open_checkpoints, open_log
from cnnjax.strips import with_strips
from cnnjax.train import fit
from cnnjax.types import Config, TrainState

logger = logging.getLogger(__name__)


def train_run(
    config: Config,
    workdir: str,
    *,
    accept_changes: bool = False,
    draws: bool = True,
    change: Callable[[Parts], Parts] = lambda parts: parts,
) -> str:
    """Trains `config` in `workdir` to its last step and writes down the results; returns them as text.

    Of several processes all call it, the first one writes, and the others return "".

    Args:
      config: of the experiment.
      workdir: the run's folder.
      accept_changes: go on with a run although its config was another one.
      draws: whether pictures and the page of the run are drawn, which takes seconds.
      change: what becomes of the parts before they are used, as for a proof that evaluates only a few examples.

    Raises:
      UsageError, RunError: as the parts do; what is saved stays.
      Stop: a signal ended the run early.
    """
    started = time.perf_counter()
    path, writes = Path(workdir).expanduser(), processes.is_first()
    if writes:
        folder.check_kind(path, "run")
    # A run that never came to a step has nothing to be mixed up with.
    if writes and folder.is_run(path) and any((path / CHECKPOINTS).glob("[0-9]*")):
        folder.check_same_config(path, config, accept_changes=accept_changes)
    parts = change(build(config))
    if parts.origin and not processes.first(lambda: any((path / CHECKPOINTS).glob("[0-9]*"))):
        parts.origin()  # what is wrong with config.init_from is told before the folder is begun
    with folder.hold(path) if writes else contextlib.nullcontext():
        if writes:
            folder.begin(path, config, folder.describe_dataset(parts.dataset))
        return _trained(parts, path, started, draws=draws)


def _trained(parts: Parts, path: Path, started: float, *, draws: bool) -> str:
    """Trains to the last step, tests, writes and draws, unless the run is finished; tells what there is now."""
    training, keep = parts.training, parts.config.train.keep_checkpoints
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            contextlib.closing(open_checkpoints(path, keep=keep, keep_best=parts.chooses))
        )
        found = path / folder.RESULTS_FILE
        if checkpoints.latest() == training.plan.num_steps and processes.first(found.exists):
            logger.info("the run in %s is finished already, at step %d", path, training.plan.num_steps)
            return _told(path, folder.read_results(path)) if processes.is_first() else ""
        logger.info("%s", headline(parts))
        step, state = _begin_state(training, checkpoints)
        if step is None and parts.config.data.source.startswith("folder:"):  # one's own pictures
            logger.info("\n%s\n", overview(parts.dataset, parts.config.data))
        if step is None and parts.origin:
            report = parts.origin().report
            logger.info("%s", report.text())
            if processes.is_first():
                report.write(path)
        log = stack.enter_context(open_log(path, resume_step=step))
        split = parts.eval_split
        evaluate = with_strips(parts.evaluate, parts.config, training.model, parts.dataset, split, path)
        with with_remedy(parts):
            state = fit(
                state,
                training.dispatch,
                training.stream,
                training.plan,
                [Member("", training.schedule, log, checkpoints, evaluate)],
                steps_per_dispatch=training.steps_per_dispatch,
                eval_split=parts.eval_split,
                keep_best=parts.chooses,
                later=training.later,
            )
        came = conclude(parts, path, state, checkpoints, log, draws=draws)
    if not processes.is_first():
        return ""
    took = {"all": time.perf_counter() - started, **came["seconds"]}
    done, train, compiling = (format_duration(took[name]) for name in ("all", "train", "compile"))
    times = f"Done in {done}. The run's steps took {train}, their compilation {compiling}."
    return f"{_told(path, came)}\n{times}"


def _told(path: Path, came: dict[str, Any]) -> str:
    return f"{results.table(came)}\n\n{results.written(path)}"


def conclude(
    parts: Parts, path: Path, state: TrainState, checkpoints: Checkpoints, log: Log, *, draws: bool
) -> dict[str, Any]:
    """Tests the last parameters of a run, writes what came of it, draws it if so wished, and returns the results."""
    came, tested = results.test(parts, state, checkpoints)
    split = list(parts.evaluators)[-1]
    log.write(came["step"], split, {"epoch": parts.training.plan.epoch(came["step"]), **came["last"][split]})
    params, model_state = devices.of_this_process(evaluated(state))
    if not processes.is_first():
        return came
    came["seconds"] = results.seconds(read_metrics(path))
    write_json(path / folder.RESULTS_FILE, came)
    if draws:
        pictures.draw(parts, path, params, model_state, tested, split)
    return came


def _begin_state(training: Training, checkpoints: Checkpoints) -> tuple[int | None, TrainState]:
    """(step, state) of the last whole checkpoint; (None, the initial state) where there is none."""
    like = training.abstract_state._asdict()
    found = checkpoints.restore_newest(like)
    if found is None:
        return None, training.init()
    step, parts = found
    logger.info("going on from step %d of %d, in %s", step, training.plan.num_steps, checkpoints.directory.parent)
    return step, TrainState(**parts)
