# SPDX-License-Identifier: Apache-2.0
"""What the processes that are killed, stopped and starved do; imported once, by the server they are forked from."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

from cnnjax.config import load_config
from cnnjax.errors import CnnjaxError
from cnnjax.stopping import Stop, stopping_at_once
from cnnjax.training_run import train_run

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


def train(workdir: str, overrides: tuple[str, ...] = (), log: str | None = None) -> None:
    """As `run.py` trains, without pictures; exits with its code. What it prints goes to the file `log`."""
    jax.config.update("jax_disable_most_optimizations", True)
    default = Path(__file__).parents[2] / "experiments/default.py"
    with _printing_to(log):
        config = load_config(str(default), [f"--config.{override}" for override in (*SMALL, *overrides)])
        try:
            with stopping_at_once():
                print(train_run(config, workdir, draws=False), flush=True)
        except Stop as stop:
            print(stop.told(), file=sys.stderr)
            code = stop.exit_code
        except CnnjaxError as error:
            print(f"error: {error}", file=sys.stderr)
            code = error.exit_code
        else:
            code = 0
    sys.exit(code)


@contextlib.contextmanager
def _printing_to(log: str | None) -> Iterator[None]:
    with Path(log or os.devnull).open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        yield
