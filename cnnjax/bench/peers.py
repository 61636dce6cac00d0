# SPDX-License-Identifier: Apache-2.0
"""The same network in another framework: which ones have a twin, and what else has to be the same."""

import importlib.util
import inspect
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cnnjax.bench.chains import CHAINS
from cnnjax.bench.subject import Subject
from cnnjax.errors import RunError, UsageError
from cnnjax.models import find_model
from cnnjax.types import Config, Model, PyTree

PEERS = ("torch", "flax")
LIKE_OURS = ("scan",)  # arguments that change the program, not the network


def twin_arguments(config: Config, known: Iterable[str], twin: Any, num_classes: int, peer: str) -> dict[str, Any]:
    """The arguments of `twin`, a function of (image_shape, **arguments), for the network of `config.model`.

    Raises:
      UsageError: the network has no twin, or one of its arguments has another value than the twin's only one.
    """
    name = config.model.name
    if twin is None:
        raise UsageError(f"the network {name} has no {peer} twin to be timed beside; those that have: {_list(known)}")
    ours = {key: p.default for key, p in inspect.signature(find_model(name)).parameters.items()}
    given = {key: value for key, value in config.model.to_dict().items() if key != "name"}
    described: Any = CHAINS.get(name, twin)
    takes = set(inspect.signature(described).parameters) - {"image_shape"}
    arguments: dict[str, Any] = {"num_classes": num_classes} if "num_classes" in ours else {}
    for key, value in given.items():
        if key in takes:
            arguments[key] = value
        elif key not in LIKE_OURS and value != ours.get(key):
            raise UsageError(f"the {peer} twin of {name} knows no {key}; leave config.model.{key} at {ours.get(key)!r}")
    return arguments


def flax_twin(subject: Subject) -> Model:
    """The network of `subject` in plain Flax.

    Raises:
      UsageError: it has no twin.
      RunError: the twin has another number of parameters.
    """
    from cnnjax.bench.flax_networks import NETWORKS

    name = subject.config.model.name
    arguments = twin_arguments(subject.config, NETWORKS, NETWORKS.get(name), subject.num_classes, "flax")
    model = NETWORKS[name](subject.image_shape, **arguments)
    image = jax.ShapeDtypeStruct((1, *subject.image_shape), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), image)[0]
    check_size("flax", count(params), subject)
    return model


def check_size(peer: str, params: int, subject: Subject) -> None:
    """Raises RunError unless a twin has as many parameters as our network."""
    if params != subject.params:
        name, shape = subject.config.model.name, "x".join(map(str, subject.image_shape))
        raise RunError(
            f"the {peer} twin of {name} has {params:,} parameters at {shape}, ours {subject.params:,}: it is another "
            "network and not timed; twins are for the input sizes of the papers"
        )


def count(params: PyTree) -> int:
    """Numbers in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def comparable(config: Config) -> Config:
    """`config` without augmentation: each framework would do it in its own way.

    Numbers become 0, ranges (1, 1); settings that say how stay.
    """
    plain: Config = ConfigDict(config.to_dict())
    for key, value in plain.augment.items():
        if isinstance(value, bool):
            plain.augment[key] = False
        elif isinstance(value, int | float):
            plain.augment[key] = type(value)(0)
        elif key in ("crop_area", "scale"):
            plain.augment[key] = (1.0, 1.0)
    return plain.lock()


def check_installed(peer: str) -> None:
    """Raises RunError when PyTorch is wanted and not installed."""
    if peer == "torch" and importlib.util.find_spec("torch") is None:
        raise RunError(
            "--peer=torch needs PyTorch, from the optional group `peers`: uv run --group peers run.py bench ..."
        )


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
