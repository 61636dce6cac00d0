# SPDX-License-Identifier: Apache-2.0
"""Every way to transfer at every number of pictures and draw: a file a result, so that an interrupted grid goes on."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from cnnjax import devices
from cnnjax.data import load_dataset
from cnnjax.data.carve import stratified
from cnnjax.errors import RunError, UsageError
from cnnjax.evaluate import evaluated
from cnnjax.experiment import build_evaluate, build_model, build_training
from cnnjax.jsonfile import read_object
from cnnjax.patterns import param_paths
from cnnjax.report.environment import write_json
from cnnjax.transfer.arms import cell_config, last_layers
from cnnjax.transfer.features import DEFAULT_LAYER, Backbone, features
from cnnjax.transfer.probes import Rows, probe
from cnnjax.transfer.start import Origin, read_origin
from cnnjax.types import Config, Dataset

logger = logging.getLogger(__name__)

GRID_FILE, CELLS = "transfer.json", "cells"


class Cell(NamedTuple):
    """One way to transfer, on so many training pictures (0: all), drawn by a seed."""

    arm: str
    size: int
    seed: int

    @property
    def file(self) -> str:
        """The name of its result."""
        return f"{self.arm}-{self.size or 'all'}-seed{self.seed}.json"


class Result(NamedTuple):
    """What came of a cell.

    Attributes:
      accuracy: on the test split, at the last step.
      train_examples: pictures it was trained on.
      steps: of training; 0 of a classifier on fixed features.
      seconds: that it took, with compilation.
    """

    accuracy: float
    train_examples: int
    steps: int
    seconds: float


def begin(workdir: Path, config: Config) -> None:
    """Makes the folder of a grid, or checks that it is one of this config.

    Raises:
      UsageError: it holds a grid of another config.
      RunError: it cannot be written.
    """
    file, now = workdir / GRID_FILE, json.loads(config.to_json())
    if file.exists():
        if read_object(file).get("config") != now:
            raise UsageError(f"{workdir} holds a comparison with another config; take another --workdir")
        return
    try:
        (workdir / CELLS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {workdir}: {error.strerror}; choose another --workdir") from error
    write_json(file, {"config": now})


def run_grid(
    workdir: Path, config: Config, arms: Sequence[str], sizes: Sequence[int], num_seeds: int
) -> dict[Cell, Result]:
    """Runs the cells that have no result in `workdir` yet, the smallest first, and returns all.

    Raises:
      UsageError, RunError: as the parts do; finished cells stay.
    """
    mesh = devices.make_mesh()
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.validation_fraction = 0.0  # nothing is chosen, so no picture is set apart for choosing
    begin(workdir, config)
    results, grid = {}, None
    cells = [Cell(arm, size, seed) for size in sizes for seed in range(num_seeds) for arm in arms]
    for number, cell in enumerate(cells, start=1):
        file = workdir / CELLS / cell.file
        if not file.exists():
            grid = grid or _Grid(config, mesh)
            write_json(file, grid.run(cell)._asdict())
        results[cell] = result = _read_result(file)
        logger.info(
            "%d of %d: %s, %d pictures, seed %d: %.1f%%",
            number, len(cells), cell.arm, result.train_examples, cell.seed, 100 * result.accuracy,
        )  # fmt: skip
    return results


def _read_result(file: Path) -> Result:
    told = read_object(file)
    if told.keys() != set(Result._fields) or not all(isinstance(value, int | float) for value in told.values()):
        raise RunError(f"{file} holds no result; remove it, and it is made again")
    return Result(**told)


class _Grid:
    """What the cells share: the trained arrays, and what the fixed network says of the pictures."""

    def __init__(self, config: Config, mesh: Mesh):
        self.config, self.mesh = config, mesh
        self.train_size, self.origin = 0, None
        self.rows: dict[int, tuple[Rows, Rows]] = {}  # of train and test, by the seed of the split

    def run(self, cell: Cell) -> Result:
        start = time.perf_counter()
        if cell.arm == "features":
            accuracy, count, steps = self._probe(cell)
        else:
            accuracy, count, steps = self._train(cell)
        return Result(accuracy, count, steps, time.perf_counter() - start)

    def _probe(self, cell: Cell) -> tuple[float, int, int]:
        if cell.seed not in self.rows:
            dataset = _load(self.config, 0, cell.seed)
            origin = self._read(self.config, dataset)
            begun = origin.begin(jax.random.key(0))
            backbone = Backbone(
                self.config, origin.fitted.model, begun.params, begun.model_state, len(dataset.label_names)
            )
            train, test = (
                (features(backbone, dataset.splits[name], DEFAULT_LAYER, self.mesh), dataset.splits[name].label)
                for name in ("train", "test")
            )
            self.rows[cell.seed] = train, test
        (image, label), test = self.rows[cell.seed]
        drawn = stratified(label, cell.size or len(label), int(label.max()) + 1, cell.seed)
        return probe("logistic", (image[drawn], label[drawn]), test, seed=cell.seed).accuracy, len(drawn), 0

    def _train(self, cell: Cell) -> tuple[float, int, int]:
        dataset = _load(self.config, cell.size, cell.seed)
        count, num_classes = len(dataset.splits["train"].label), len(dataset.label_names)
        model = build_model(self.config, num_classes)
        image = jax.ShapeDtypeStruct((1, *dataset.splits["train"].image.shape[1:]), np.float32)
        part = last_layers(param_paths(jax.eval_shape(model.init, jax.random.key(0), image)[0]))
        config = cell_config(self.config, cell.arm, cell.size, cell.seed, count, part)
        begin = None if cell.arm == "scratch" else self._read(config, dataset).begin
        training = build_training(config, model, dataset, self.mesh, begin)
        state, steps = training.init(), training.steps_per_dispatch
        for step in range(0, training.plan.num_steps, steps):
            taken = min(steps, training.plan.num_steps - step)
            state, rows = training.dispatch(state, training.stream.arrays, training.stream.items(step, steps), taken)
        if not np.isfinite(np.asarray(rows["loss"][0])[:taken]).all():
            raise RunError(f"the loss of {cell.file} is not finite; set a lower config.optimizer.learning_rate")
        evaluate = build_evaluate(config, model, dataset.splits["test"], num_classes, self.mesh)
        return evaluate(*evaluated(state)).summary()["accuracy"], count, training.plan.num_steps

    def _read(self, config: Config, dataset: Dataset) -> Origin:
        """The trained arrays; read once, as they are the same for every cell."""
        if self.origin is None:
            model = build_model(config, len(dataset.label_names))
            shape = dataset.splits["train"].image.shape[1:]
            self.origin = read_origin(config, model, dataset.label_names, shape)
            logger.info("%s", self.origin.report.text())
        return self.origin


def _load(config: Config, size: int, seed: int) -> Dataset:
    data = config.data.copy_and_resolve_references()
    with data.unlocked():
        data.split_seed, data.train_examples = seed, size
    dataset = load_dataset(data, ("train", "test"))
    if "test" not in dataset.splits:
        raise RunError(f"{dataset.name} has no test split under this config; set config.data.test_fraction")
    return dataset


def summary(results: dict[Cell, Result]) -> list[dict[str, Any]]:
    """A row for each size and arm: accuracies by seed, in the order of the cells."""
    rows: dict[tuple[int, str], list[Result]] = {}
    for cell, result in results.items():
        rows.setdefault((cell.size, cell.arm), []).append(result)
    return [
        {
            "arm": arm,
            "train_examples": each[0].train_examples,
            "accuracy": [result.accuracy for result in each],
            "steps": each[0].steps,
            "seconds": sum(result.seconds for result in each),
        }
        for (_, arm), each in rows.items()
    ]
