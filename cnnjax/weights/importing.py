# SPDX-License-Identifier: Apache-2.0
"""A workdir made of weights from elsewhere, such as training would have left behind at step 0."""

import contextlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnnjax import devices
from cnnjax.checkpoint import FOLDER, Checkpoints
from cnnjax.config import check_values
from cnnjax.errors import UsageError
from cnnjax.optim import make_optimizer
from cnnjax.param_groups import param_groups
from cnnjax.report.environment import write_json
from cnnjax.types import Config, ModelState, Params, TrainState
from cnnjax.weights.data import parse_shape
from cnnjax.workdir import DatasetInfo, begin, is_run

WEIGHTS_FILE = "weights.json"


def check_free(workdir: Path) -> None:
    """Raises UsageError when `workdir` holds a run, or checkpoints of one."""
    if is_run(workdir) or (workdir / FOLDER).exists():
        raise UsageError(f"{workdir} holds a run already; take another --workdir")


def with_input(config: Config, image: str | None) -> Config:
    """`config` whose `data.image_size` is the height and width of `image` ("HxWxC"), if given.

    So whatever prepares pictures for the network, now or later, makes them of that size.
    """
    if image:
        with config.unlocked():
            config.data.image_size = parse_shape(image)[:2]
        check_values(config)
    return config


def write_run(
    workdir: Path,
    config: Config,
    info: DatasetInfo,
    params: Params,
    model_state: ModelState,
    origin: dict[str, Any],
) -> None:
    """Writes a run of `config` at step 0, which every command accepts and training goes on from.

    Args:
      workdir: a folder without a run (`check_free`).
      config: the resolved config.
      info: what a run must remember of its data.
      params: float32, as the network of `config` has them.
      model_state: likewise.
      origin: where the weights are from and what became of each: `weights.json`.

    Raises:
      RunError: a file cannot be written.
    """
    everywhere = devices.replicated(devices.make_mesh())
    params, model_state = jax.device_put((params, model_state), everywhere)
    # The schedule moves no array: the optimizer's state before the first step is the same with any.
    schedule = optax.constant_schedule(config.optimizer.learning_rate)
    tx = make_optimizer(config.optimizer, schedule, param_groups(config, params))
    ema = jax.tree.map(jnp.copy, params) if config.train.ema_decay else {}
    state = TrainState(jnp.zeros((), jnp.int32), params, model_state, tx.init(params), ema)
    with contextlib.closing(Checkpoints(workdir, keep=1)) as checkpoints:
        checkpoints.save(0, jax.device_put(state, everywhere))
        checkpoints.wait()
    write_json(workdir / WEIGHTS_FILE, origin)
    begin(workdir, config, info)  # last: only now is it a run
