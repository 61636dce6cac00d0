# SPDX-License-Identifier: Apache-2.0
"""What the processes that are killed, stopped and starved do; imported once, by the server they are forked from."""

import logging
import os
import random
import sys
import time
from pathlib import Path

import jax

from cnnjax.config import load_config
from cnnjax.errors import CnnjaxError
from cnnjax.stopping import Stop, stopping_at_once
from cnnjax.training_run import train_run

DAY = 24 * 60 * 60

SMALL = (
    "data.source=synthetic",
    "data.synthetic.num_examples=96",
    "data.synthetic.num_classes=3",
    "data.synthetic.image_shape=(8,8,1)",
    "data.batch_size=16",
    "data.eval_batch_size=16",
    "model.hidden=(8,)",
    "model.dropout_rate=0.2",
    "augment.mirror=0.5",
    "augment.mixup=0.2",
    "optimizer.learning_rate=0.05",
    "train.ema_decay=0.9",
    "train.num_steps=40",
    "train.eval_every_steps=4",
    "train.checkpoint_every_steps=4",
    "train.log_every_steps=4",
)
"""A network whose steps take milliseconds, with everything random that there is."""


def train(workdir: str, overrides: tuple[str, ...], log: str, clock: str) -> None:
    """As `run.py` trains, without pictures; exits with its code.

    Args:
      workdir: of the run.
      overrides: of SMALL, "KEY=VALUE".
      log: the file that takes what it prints.
      clock: "": the machine's | "jumps": up to a day either way at each look | "back": a year behind.
    """
    _print_to(log)
    _set_clock(clock)
    jax.config.update("jax_disable_most_optimizations", True)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
    logging.getLogger("cnnjax").setLevel(logging.INFO)
    for library in ("absl", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None  # as in run.py, and so are the levels above
    default = Path(__file__).parents[2] / "experiments/default.py"
    try:
        config = load_config(str(default), [f"--config.{override}" for override in (*SMALL, *overrides)])
        with stopping_at_once():
            print(train_run(config, workdir, draws=False), flush=True)
    except Stop as stop:
        _exit(stop.told(), stop.exit_code)
    except CnnjaxError as error:
        _exit(f"error: {error}", error.exit_code)


def _exit(message: str, code: int) -> None:
    print(message, file=sys.stderr, flush=True)
    sys.exit(code)


def _print_to(log: str) -> None:
    with Path(log).open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _set_clock(clock: str) -> None:
    now, now_ns = time.time, time.time_ns
    jumps = random.Random(0)

    def off() -> int:  # seconds
        return jumps.randrange(-DAY, DAY) if clock == "jumps" else -365 * DAY

    if clock:
        time.time = lambda: now() + off()
        time.time_ns = lambda: now_ns() + off() * 10**9
