# SPDX-License-Identifier: Apache-2.0
"""How well each small classifier does on fixed features with few training pictures, over several draws of them."""

import time
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from cnnjax.data.carve import stratified
from cnnjax.errors import RunError, UsageError
from cnnjax.transfer.features import Backbone, features
from cnnjax.transfer.probes import METHODS, Probe, Rows, probe
from cnnjax.types import Dataset

ALL = 0
"""The size that stands for all training pictures."""


class Row(NamedTuple):
    """One method with one number of training pictures.

    Attributes:
      size: training pictures.
      method: of `probes.METHODS`.
      probes: one a draw.
    """

    size: int
    method: str
    probes: list[Probe]

    def shown(self) -> str:
        """Mean and standard deviation of the test accuracy."""
        return mean_and_deviation([each.accuracy for each in self.probes])


def mean_and_deviation(accuracies: list[float]) -> str:
    """A mean over draws with its standard deviation (n - 1): "71.3 ± 2.0%"; of one draw the value alone."""
    mean = 100 * np.mean(accuracies)
    return f"{mean:.1f}%" if len(accuracies) == 1 else f"{mean:.1f} ± {100 * np.std(accuracies, ddof=1):.1f}%"


def parse_sizes(text: str, flag: str) -> list[int]:
    """Numbers of training pictures, "10,30,all"; `ALL` for all.

    Raises:
      UsageError: something else, or one twice.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word == "all" or (word.isdecimal() and int(word) > 0) for word in words) or len({*words}) < len(words):
        raise UsageError(f"{flag} is {text!r}; write numbers and all, each once, as in 10,30,100,all")
    return [ALL if word == "all" else int(word) for word in words]


def measure(
    backbone: Backbone, dataset: Dataset, layer: str, sizes: list[int], num_seeds: int, mesh: Mesh
) -> tuple[list[Row], dict[str, float]]:
    """A row for each size and method, and the seconds that features and classifiers took.

    Draw s of a size is `carve.stratified` with seed s; all training pictures are one draw. The validation split, where
    there is one, chooses the settings of classifiers that have all training pictures, and is left alone by the others:
    who has ten pictures has no more to choose by.

    Raises:
      UsageError: no such layer, or a size that the training split does not have.
      RunError: there is no test split.
    """
    if "test" not in dataset.splits:
        raise RunError(f"{dataset.name} has no test split under this config; set config.data.test_fraction")
    start = time.perf_counter()
    rows: dict[str, Rows] = {
        name: (features(backbone, split, layer, mesh), split.label) for name, split in dataset.splits.items()
    }
    extracted = time.perf_counter()
    train, found = rows["train"], []
    for size in sizes:
        drawn = [
            stratified(train[1], size or len(train[1]), len(dataset.label_names), seed)
            for seed in range(num_seeds if size else 1)
        ]
        for method in METHODS:
            validation = rows.get("validation") if size == ALL else None
            probes = [
                probe(method, (train[0][each], train[1][each]), rows["test"], validation, seed=seed)
                for seed, each in enumerate(drawn)
            ]
            found.append(Row(len(drawn[0]), method, probes))
    return found, {"features": extracted - start, "classifiers": time.perf_counter() - extracted}
