# SPDX-License-Identifier: Apache-2.0
"""The networks that are evaluated together, and what each says of a split."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from cnnjax import devices
from cnnjax.data import load_dataset
from cnnjax.errors import RunError, UsageError
from cnnjax.experiment import LogitsOf, Network, build_logits, load_network
from cnnjax.types import Config, ModelState, Params, Split
from cnnjax.workdir import members

logger = logging.getLogger(__name__)

# Keys of config.data that decide which examples a split holds, and what their labels mean.
_EXAMPLES = ("source", "train_split", "test_split", "labels", "validation_fraction", "test_fraction", "split_seed")
# Sections and keys that decide a network's program, beside its parameters.
_PROGRAM = ("model", "data", "eval", "augment")

Change = Callable[[Split], Split]


class Member(NamedTuple):
    """One of the networks that are evaluated; `name` is its folder, as short as tells it from the others."""

    name: str
    workdir: Path
    network: Network


def load_members(workdirs: Sequence[str], checkpoint: str, overrides: Sequence[str]) -> list[Member]:
    """The networks of runs, and of ensembles and sweeps, which hold several runs.

    Raises:
      UsageError: no folder, or networks of different classes or data.
      RunError: a folder holds no run.
    """
    if not workdirs:
        raise UsageError("no workdir given; add --workdir=DIR, the folder of a training run")
    paths = [path for workdir in workdirs for path in members(Path(workdir).expanduser())]
    twice = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
    if twice:
        raise UsageError(f"--workdir={twice} is given twice; name each run once")
    names = _short_names(paths)
    found = []
    for name, path in zip(names, paths, strict=True):
        found.append(Member(name, path, load_network(str(path), checkpoint, overrides)))
        _check_alike(found[0], found[-1])
    return found


class Scorer:
    """What networks say of splits; each split is read once, and networks of one kind share a compiled program."""

    def __init__(self, mesh: Mesh | None = None):
        self._mesh = mesh or devices.make_mesh()
        self._splits: dict[str, Split] = {}
        self._programs: dict[str, LogitsOf] = {}

    def split(self, network: Network, name: str) -> Split:
        """The split of the network's data, pictures as in training; checked against what it was trained on.

        Raises:
          RunError: there is no such split, or the data are others.
        """
        split, names = self._load(network.config.data, name)
        info = network.info
        if names != info.label_names or split.image.shape[1:] != info.image_shape:
            raise RunError(
                f"{info.name} has {len(names)} classes and images {split.image.shape[1:]}, the run "
                f"{len(info.label_names)} classes and {info.image_shape}; give it the data it was made for"
            )
        return split

    def logits(
        self,
        network: Network,
        name: str,
        *,
        weights: tuple[Params, ModelState] | None = None,
        change: Change | None = None,
    ) -> np.ndarray:
        """[N,K] float32 under the protocol of the network's config.

        Args:
          network: whose config, model and, unless given, weights.
          name: of the split.
          weights: other parameters and model_state for the same network.
          change: what is done to the pictures first, such as a corruption.
        """

        def load(data: Config) -> Split:
            split, _ = self._load(data, name)
            return change(split) if change else split

        self.split(network, name)
        program = self._programs.setdefault(_program_key(network), self._build(network))
        return program(*(weights or (network.params, network.model_state)), load)

    def _build(self, network: Network) -> LogitsOf:
        return build_logits(network.config, network.model, network.info.image_shape, self._mesh)

    def _load(self, data: Config, name: str) -> tuple[Split, tuple[str, ...]]:
        key = f"{name} {data.to_json_best_effort()}"
        if key not in self._splits:
            dataset = load_dataset(data, (name,))
            if name not in dataset.splits:
                raise RunError(f"{dataset.name} has no {name} split under this config; choose another --split")
            self._splits[key] = dataset.splits[name], dataset.label_names  # pyright: ignore[reportArgumentType]
        return self._splits[key]  # pyright: ignore[reportReturnType]


def _program_key(network: Network) -> str:
    config = network.config
    parts = {name: config[name].to_dict() for name in _PROGRAM}
    drawn = config.seed if config.eval.protocol == "tta" and config.eval.views == "augment" else None
    return json.dumps([parts, config.train.dtype, drawn, network.info.image_shape], default=str)


def _check_alike(first: Member, other: Member) -> None:
    """Raises UsageError unless both networks tell the same classes of the same examples."""
    ours, theirs = first.network, other.network
    if ours.info.label_names != theirs.info.label_names:
        raise UsageError(
            f"{first.name} tells {_classes(ours)} apart, {other.name} {_classes(theirs)}: only networks of the same "
            "classes, in the same order, can be evaluated together"
        )
    for key in _EXAMPLES:
        one, two = ours.config.data[key], theirs.config.data[key]
        if one != two:
            raise UsageError(
                f"config.data.{key} is {one!r} in {first.name} and {two!r} in {other.name}: only networks of the same "
                f"data can be evaluated together; give all the same with --config.data.{key}=..."
            )


def _classes(network: Network) -> str:
    names = network.info.label_names
    shown = ", ".join(names[:4])
    return f"{len(names)} classes ({shown}{', ...' if len(names) > 4 else ''})"


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell all of them apart."""
    whole = [path.absolute().parts for path in paths]
    for depth in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-depth:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
