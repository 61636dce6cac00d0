# SPDX-License-Identifier: Apache-2.0
"""The ways to use a trained network on few pictures, as configs: from scratch, fixed features, a part, or all of it."""

import math
import re
from collections.abc import Sequence

from cnnjax.config import check_values
from cnnjax.types import Config

ARMS = {"scratch": "from scratch", "features": "fixed features", "part": "last layers trained", "all": "all trained"}
"""What is compared, with the words for it in a figure."""

SLOWER = 0.2  # rate of layers that come trained, against the new output's
LEAST_STEPS = 100  # of a small set, for which some passes over it are too few steps to learn anything
_DEPTH = re.compile(r"(?:stage|conv|block|hidden)(\d+)")
_EARLY = re.compile(r"stem|bn|conv")


def last_layers(paths: Sequence[str]) -> tuple[str, ...]:
    """Patterns of a network's last part: its last stage and the dense layers after it; `output` is one of them.

    By the names of the layers: "stage3_conv1" and "stage4" have depth 3 and 4; dense layers ("features", "fc6",
    "output") follow all of them.
    """
    layers = list(dict.fromkeys(path.split("/")[0] for path in paths))
    depth = {layer: int(found[1]) for layer in layers if (found := _DEPTH.match(layer))}
    deepest = max(depth.values(), default=0)
    return tuple(
        layer for layer in layers if depth.get(layer) == deepest or (layer not in depth and not _EARLY.match(layer))
    )


def cell_config(config: Config, arm: str, size: int, seed: int, train_size: int, part: Sequence[str]) -> Config:
    """The config of one training: an arm on `size` pictures (0: all), drawn and started by `seed`.

    The steps are `config.train.num_epochs` passes over the pictures, LEAST_STEPS at least; all else is the config's.

    Args:
      config: of the target data, with `init_from`.
      arm: "scratch", "part" or "all".
      size: training pictures.
      seed: of the draw, the start and the order.
      train_size: training pictures that there are, of which 0 stands for all.
      part: patterns of the layers that "part" trains.
    """
    cell = config.copy_and_resolve_references()
    count = size or train_size
    with cell.unlocked():
        cell.seed, cell.data.split_seed, cell.data.train_examples = seed, seed, size
        cell.data.batch_size = min(config.data.batch_size, count)
        epochs = config.train.num_epochs
        steps = config.train.num_steps if epochs is None else math.ceil(epochs * count / cell.data.batch_size)
        cell.train.num_epochs, cell.train.num_steps = None, max(steps, LEAST_STEPS)
        cell.freeze, cell.unfreeze, cell.optimizer.factors = (), (), ()
        if arm == "scratch":
            cell.init_from, cell.init_rename, cell.init_allow, cell.optimizer.l2_sp = "", (), (), 0.0
        else:
            cell.optimizer.factors = (f"*={SLOWER}", "output=1")
        if arm == "part":
            cell.freeze = ("*", *(f"!{pattern}" for pattern in part))
            rest = [pattern for pattern in part if pattern != "output"]
            cell.optimizer.factors = (f"*={SLOWER}", "output=1") if rest else ()
    check_values(cell)
    return cell.lock()
