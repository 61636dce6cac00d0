# SPDX-License-Identifier: Apache-2.0
"""The configs of an ensemble's members, and which configs can share one compiled step."""

import json
from collections.abc import Sequence

from cnnjax.config import flatten
from cnnjax.errors import UsageError
from cnnjax.optim import DECOUPLED
from cnnjax.types import Config

ENSEMBLE_KEYS = {"ensemble_size": 1, "ensemble_seeds": (), "ensemble_learning_rates": ()}
"""Keys that only an ensemble as a whole has, with the values that its members have."""

TRACED = ("learning_rate", "momentum", "beta1", "beta2", "epsilon", "weight_decay", "l1", "clip_norm")
"""Numbers of `config.optimizer` that may differ between networks of one compiled step."""


def is_ensemble(config: Config) -> bool:
    """Whether `config` asks for several networks."""
    return any(config[key] != value for key, value in ENSEMBLE_KEYS.items())


def member_configs(config: Config) -> list[Config]:
    """The config of each member, which is that of the separate run with its seed and its learning rate.

    Raises:
      UsageError: the sizes disagree, or two members would be the same.
    """
    size = _size(config)
    seeds = config.ensemble_seeds or tuple(config.seed + i for i in range(size))
    rates = config.ensemble_learning_rates or (config.optimizer.learning_rate,) * size
    pairs = list(zip(seeds, rates, strict=True))
    for i, pair in enumerate(pairs):
        if pair in pairs[:i]:
            what = f"config.ensemble_seeds names {pair[0]} twice" if config.ensemble_seeds else "two are the same"
            raise UsageError(
                f"{what}: members {pairs.index(pair)} and {i} would be one network; give each a seed of its own"
            )
    return [with_values(config, {**ENSEMBLE_KEYS, "seed": s, "optimizer.learning_rate": r}) for s, r in pairs]


def _size(config: Config) -> int:
    """How many, from whichever of the three keys tells."""
    told = {key: len(config[key]) for key in ("ensemble_seeds", "ensemble_learning_rates") if len(config[key])}
    if config.ensemble_size != 1 or not told:
        told["ensemble_size"] = config.ensemble_size
    if len(set(told.values())) > 1:
        numbers = " and ".join(f"config.{key} {count}" for key, count in told.items())
        raise UsageError(f"the sizes of the ensemble disagree: {numbers} networks; give one of them")
    return next(iter(told.values()))


def with_values(config: Config, values: dict[str, object]) -> Config:
    """A locked copy of `config` with other values of some keys, by dotted name."""
    changed: Config = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.update_from_flattened_dict(values)
    return changed.lock()


def program(config: Config) -> str:
    """What the compiled step depends on: configs with the same one can be trained in one step.

    Those are the ones that differ in the seed, and in numbers of the optimizer that are 0 in all or in none.
    """
    flat = flatten(config)
    shared = {key: value for key, value in flat.items() if key != "seed"}
    for name in TRACED:
        key = f"optimizer.{name}"
        shared[key] = bool(flat[key]) or (name == "weight_decay" and flat["optimizer.name"] in DECOUPLED)
    return json.dumps(shared, default=str)


def varied(configs: Sequence[Config]) -> list[str]:
    """Those of TRACED that are not the same in all configs."""
    return [name for name in TRACED if len({config.optimizer[name] for config in configs}) > 1]
