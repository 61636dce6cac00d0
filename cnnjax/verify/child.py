# SPDX-License-Identifier: Apache-2.0
"""A short run without pictures, in a process of its own.

`python -m cnnjax.verify.child CONFIG.json WORKDIR STEPS EVERY`
"""

import json
import logging
import sys
from functools import partial
from pathlib import Path

from cnnjax.config import config_from_json
from cnnjax.errors import CnnjaxError
from cnnjax.experiment import build_evaluate
from cnnjax.parts import Parts
from cnnjax.training_run import train_run
from cnnjax.types import Split

EVALUATED = 256
"""Examples of each split that are evaluated: enough to compare runs by, and quick for networks of any size."""


def main(argv: list[str]) -> int:
    """Trains the config of a JSON file for so many steps, saving and evaluating after every few; the exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    for library in ("absl", "asyncio"):  # as in cnnjax.commands
        logging.getLogger(library).setLevel(logging.CRITICAL)
    logging.getLogger("cnnjax").setLevel(logging.INFO)
    file, workdir, steps, every = argv
    config = config_from_json(json.loads(Path(file).read_text()), where=file)
    try:
        train_run(config, workdir, draws=False, change=partial(shortened, steps=int(steps), every=int(every)))
    except CnnjaxError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def shortened(parts: Parts, *, steps: int, every: int) -> Parts:
    """`parts` that end after `steps`, save, evaluate and log after `every` few, and evaluate EVALUATED examples.

    The compiled step, and with it the schedule of learning rates, stays that of the whole run.
    """
    training, mesh = parts.training, parts.mesh
    at = frozenset({*range(every, steps, every), steps})
    plan = training.plan._replace(num_steps=steps, log_every=every, evaluate_at=at, save_at=at)
    later = tuple(program for program in training.later if program[0] < steps)
    names, splits = parts.dataset.label_names, dict(parts.dataset.splits)
    for name in parts.evaluators:
        splits[name] = Split(*(rows[:EVALUATED] for rows in splits[name]))
    few = {
        name: build_evaluate(parts.config, training.model, splits[name], len(names), mesh) for name in parts.evaluators
    }
    return parts._replace(
        training=training._replace(plan=plan, later=later),
        evaluators=few,
        testers=few,
        dataset=parts.dataset._replace(splits=splits),
    )


if __name__ == "__main__":
    sys.unraisablehook = lambda _: None  # as in run.py
    sys.exit(main(sys.argv[1:]))
