# SPDX-License-Identifier: Apache-2.0
"""Training several runs at once, each in its own folder: begin or go on, train in one step, test each."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cnnjax import workdir as folder
from cnnjax.checkpoint import FOLDER, Checkpoints
from cnnjax.ensemble.together import build_together, choose_way
from cnnjax.errors import Diverged
from cnnjax.jsonfile import read_object
from cnnjax.members import Member
from cnnjax.memory import TooLarge
from cnnjax.optim import make_schedule
from cnnjax.parts import Parts, headline
from cnnjax.report.environment import write_json
from cnnjax.report.log import RunLog
from cnnjax.train import fit
from cnnjax.training_run import conclude, train_run
from cnnjax.types import Config, TrainState

logger = logging.getLogger(__name__)

DIVERGED_FILE = "diverged.json"


def train_together(
    parts: Parts,
    configs: Sequence[Config],
    paths: Sequence[Path],
    *,
    at_once: int | None = None,
    accept_changes: bool = False,
    draws: bool = True,
) -> None:
    """Trains runs of one `program` to their last steps, each in its folder; those that are done already stay.

    One whose numbers leave the floats is noted in its folder (`read_diverged`), and the others go on.

    Args:
      parts: built from the first config.
      configs: one a run.
      paths: their folders, made when they are not there.
      at_once: how many at most in one step; None: as many as the memory holds.
      accept_changes: go on with runs although their configs were others.
      draws: whether the pictures and the page of each run are drawn, which takes seconds a run.

    Raises:
      UsageError, RunError: as of a single run.
      TooLarge: `at_once` networks do not fit into the memory.
      Stop: a signal ended the runs early; all are saved.
    """
    for config, path in zip(configs, paths, strict=True):
        folder.check_kind(path, "run")
        if folder.is_run(path):
            folder.check_same_config(path, config, accept_changes=accept_changes)
            if accept_changes:
                (path / DIVERGED_FILE).unlink(missing_ok=True)
    last = parts.training.plan.num_steps
    steps = [_steps(parts, path) for path in paths]
    open_ends = [i for i, path in enumerate(paths) if not _is_done(path, steps[i], last)]
    for step, members in going_on({i: steps[i] for i in open_ends}).items():
        _train_parted(parts, [configs[i] for i in members], [paths[i] for i in members], step, at_once, draws)


def _train_parted(
    parts: Parts, configs: Sequence[Config], paths: Sequence[Path], step: int | None, at_once: int | None, draws: bool
) -> None:
    """As many at once as allowed or, when that is not told, as fit into the memory."""
    # A step that changes on the way (config.unfreeze) does so in a run by itself only.
    size = 1 if parts.training.later else min(at_once or len(configs), len(configs))
    first = 0
    while first < len(configs):
        part = slice(first, first + size)
        try:
            _train_part(parts._replace(config=configs[first]), configs[part], paths[part], step, draws)
        except TooLarge as error:
            if at_once is not None or size == 1:
                raise
            size = -(-size // 2)
            logger.warning("%s; going on with %d at once", error, size)
            continue
        first += size


def _train_part(parts: Parts, configs: Sequence[Config], paths: Sequence[Path], step: int | None, draws: bool) -> None:
    if len(configs) == 1:
        try:
            # Whether changes are accepted was asked at the beginning.
            train_run(configs[0], str(paths[0]), accept_changes=True, draws=draws)
        except Diverged as error:
            _note_diverged(paths[0], error)
        return
    training, plan = parts.training, parts.training.plan
    way = choose_way(parts)
    together = build_together(parts, configs, way)
    with contextlib.ExitStack() as stack:
        checkpoints, logs, members = [], [], []
        for i, (config, path) in enumerate(zip(configs, paths, strict=True)):
            stack.enter_context(folder.hold(path))
            folder.begin(path, config, folder.describe_dataset(parts.dataset))
            kept = Checkpoints(path, keep=config.train.keep_checkpoints, keep_best=parts.chooses)
            checkpoints.append(stack.enter_context(contextlib.closing(kept)))
            logs.append(stack.enter_context(RunLog(path, resume_step=step)))
            own = partial(together.take, i), partial(together.rows, i)
            members.append(Member(path.name, _schedule(parts, config), logs[i], kept, parts.evaluate, *own))
        logger.info("%s: %d networks at once (%s)", headline(parts), len(configs), way)
        if step is None:
            states = together.init()
        else:
            logger.info("going on from step %d of %d in %s", step, plan.num_steps, paths[0].parent)
            like = training.abstract_state._asdict()
            states = [TrainState(**kept.restore(like, step)) for kept in checkpoints]
        state = together.stack(states)
        del states  # the stacked ones are copies
        folders, lost = dict(zip((path.name for path in paths), paths, strict=True)), set()

        def diverged(member: Member, error: Diverged) -> None:
            lost.add(member.name)
            _note_diverged(folders[member.name], error)

        with contextlib.suppress(Diverged):  # of the last one; each is noted
            state = fit(
                state,
                together.dispatch,
                together.stream,
                plan,
                members,
                steps_per_dispatch=training.steps_per_dispatch,
                eval_split=parts.eval_split,
                keep_best=parts.chooses,
                diverged=diverged,
            )
        for i, member in enumerate(members):
            if member.name not in lost:
                own = parts._replace(config=configs[i])
                conclude(own, paths[i], member.state(state), checkpoints[i], logs[i], draws=draws)


def going_on(steps: dict[int, list[int]]) -> dict[int | None, list[int]]:
    """From where runs with these checkpoints go on: {step: runs}, None for the beginning.

    All from the last step that each has; when a kill left none in common, those of one last step together.
    """
    if not steps:
        return {}
    common = set.intersection(*(set(own) for own in steps.values()))
    if common:
        return {max(common): list(steps)}
    groups: dict[int | None, list[int]] = {}
    for run, own in steps.items():
        groups.setdefault(max(own, default=None), []).append(run)
    return groups


def read_diverged(path: Path) -> str | None:
    """Why the run in a folder came to no end, None when it did or still may."""
    file = path / DIVERGED_FILE
    return str(read_object(file).get("error")) if file.is_file() else None


def _note_diverged(path: Path, error: Diverged) -> None:
    write_json(path / DIVERGED_FILE, {"error": str(error)})
    logger.warning("%s", error)


def _is_done(path: Path, steps: list[int], last: int) -> bool:
    return (path / DIVERGED_FILE).exists() or (last in steps and (path / folder.RESULTS_FILE).exists())


def _steps(parts: Parts, path: Path) -> list[int]:
    """The checkpoints of a run's folder, the last of which is whole: a damaged one is set aside."""
    if not (path / FOLDER).is_dir():
        return []
    like, keep = parts.training.abstract_state._asdict(), parts.config.train.keep_checkpoints
    with contextlib.closing(Checkpoints(path, keep=keep, keep_best=parts.chooses)) as checkpoints:
        checkpoints.restore_newest(like)
        return checkpoints.steps()


def _schedule(parts: Parts, config: Config) -> Callable[[Any], Any]:
    plan = parts.training.plan
    peak = config.optimizer.learning_rate
    return make_schedule(config.schedule, peak=peak, num_steps=plan.num_steps, steps_per_epoch=plan.steps_per_epoch)
