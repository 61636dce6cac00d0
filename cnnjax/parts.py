# SPDX-License-Identifier: Apache-2.0
"""What a config stands for, built and checked: the data read, the network, its training and its tests."""

import functools
import json
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from cnnjax import devices, processes
from cnnjax.data import load_dataset
from cnnjax.data.overview import check_classes
from cnnjax.data.streamed import is_streamed
from cnnjax.errors import UsageError
from cnnjax.evaluate import Evaluate, evaluated
from cnnjax.experiment import (
    LoadSplit,
    Start,
    Training,
    build_evaluate,
    build_model,
    build_test,
    build_training,
)
from cnnjax.models.check import check_named
from cnnjax.report.table import format_bytes, format_count, format_table
from cnnjax.train import blank_arguments
from cnnjax.transfer.start import Origin, read_origin
from cnnjax.types import Array, Config, Dataset, Split, TrainState

_COMPARED = 64  # images; all processes must read the same set, but need not read all of it twice


class Parts(NamedTuple):
    """What a config stands for, built and checked."""

    config: Config
    mesh: Mesh
    dataset: Dataset
    training: Training
    evaluators: dict[str, Evaluate]  # by split, pictures as they are
    testers: dict[str, Evaluate]  # by split, under the protocol of config.eval
    loads: dict[str, LoadSplit]  # by split, the pictures that the protocol shows
    origin: Callable[[], Origin] | None  # reads what config.init_from names, once

    @property
    def chooses(self) -> bool:
        """Whether a best checkpoint is kept: the test set must not choose one, so there must be a validation split."""
        return "validation" in self.evaluators

    @property
    def eval_split(self) -> str:
        """What is evaluated during training."""
        return "validation" if self.chooses else "test"

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """The metrics of a state during training."""
        return self.evaluators[self.eval_split](*evaluated(state)).summary()


def build(config: Config) -> Parts:
    """Builds and checks what `config` stands for; its data are read, nothing is compiled yet."""
    devices.use_compilation_cache()
    devices.set_up(config.train)
    mesh = devices.make_mesh()
    dataset = load_dataset(config.data)
    processes.check_same("training data", _print_of(dataset.splits["train"]))
    if config.task.name == "classification":
        check_classes(dataset)
    num_classes = len(dataset.label_names)
    model = build_model(config, num_classes)
    check_named(model, dataset.splits["train"].image.shape[1:], num_classes, name=config.model.name)
    splits = [name for name in ("validation", "test") if name in dataset.splits]
    if not splits:
        raise UsageError("there is nothing to evaluate on: set config.data.validation_fraction or test_fraction")
    evaluators = {name: build_evaluate(config, model, dataset.splits[name], num_classes, mesh) for name in splits}
    testing = config.eval.protocol != "single"
    shape = dataset.splits["train"].image.shape[1:]
    loads = {name: partial(_load, config, dataset, name) for name in splits}
    testers = {n: build_test(config, model, loads[n], shape, mesh) for n in splits} if testing else evaluators
    origin, begin = None, None
    if config.init_from:
        origin = functools.cache(lambda: read_origin(config, model, dataset.label_names, shape))
        begin = partial(_begin, origin)
    training = build_training(config, model, dataset, mesh, begin)
    # A task that does not fit the network is told now; jit keeps the trace for the first step.
    arguments = blank_arguments(training.abstract_state, training.stream, training.steps_per_dispatch)
    jax.eval_shape(training.dispatch, training.abstract_state, training.stream.arrays, *arguments)
    return Parts(config, mesh, dataset, training, evaluators, testers, loads, origin)


def _begin(origin: Callable[[], Origin], key: Array) -> Start:
    return origin().begin(key)


def _print_of(split: Split) -> int:
    """A checksum of all labels, and of a few images of a split in memory; 0 where nobody compares it."""
    if not processes.several():
        return 0
    if is_streamed(split):
        return zlib.crc32(split.label.tobytes())
    spread = np.linspace(0, len(split.label) - 1, _COMPARED, dtype=int)
    return zlib.crc32(np.ascontiguousarray(split.image[spread]).tobytes(), zlib.crc32(split.label.tobytes()))


def _load(config: Config, dataset: Dataset, name: str, data: Config) -> Split:
    """A split as `data` says; one that `config` does not have, of another size, is read now."""
    return dataset.splits[name] if data is config.data else load_dataset(data, (name,)).splits[name]


def headline(parts: Parts) -> str:
    """Network, data and devices in a line."""
    splits = ", ".join(f"{format_count(len(split.label))} {name}" for name, split in parts.dataset.splits.items())
    count = format_count(_size(parts.training.abstract_state.params)[0])
    name, kind = parts.config.model.name, jax.devices()[0].device_kind
    return f"{name} ({count} parameters) on {parts.dataset.name} ({splits}), {parts.mesh.size} x {kind}"


def describe(config: Config) -> str:
    """What a run of `config` would be: the config, the network's size, memory and steps. Trains nothing."""
    parts = build(config)
    training, plan = parts.training, parts.training.plan
    steps = training.steps_per_dispatch
    arguments = blank_arguments(training.abstract_state, training.stream, steps)
    lowered = training.dispatch.lower(training.abstract_state, training.stream.arrays, *arguments)
    memory = lowered.compile().memory_analysis()
    rows = [
        ("network", config.model.name),
        ("parameters", format_count(_size(training.abstract_state.params)[0])),
        ("training images", format_count(training.stream.num_examples)),
        ("batch size", format_count(training.stream.batch_size)),
        ("steps per epoch", f"{plan.steps_per_epoch:.2f}"),
        ("steps", f"{format_count(plan.num_steps)} ({plan.epoch(plan.num_steps):.1f} epochs)"),
        ("steps per dispatch", format_count(steps)),
        ("memory: parameters, optimizer and averages", format_bytes(_size(training.abstract_state)[1])),
        ("memory: data", format_bytes(_size(training.stream.arrays.data)[1])),
        (
            "memory: one step's activations and gradients",
            format_bytes(memory.temp_size_in_bytes) if memory else "not known",
        ),
        ("devices", f"{parts.mesh.size} x {jax.devices()[0].device_kind}"),
    ]
    text = f"{json.dumps(json.loads(config.to_json()), indent=2)}\n\n{format_table(('', ''), rows, 'lr')}"
    return f"{text}\n\n{parts.origin().report.text()}" if parts.origin else text


def _size(tree: Any) -> tuple[int, int]:
    """(elements, bytes) of all arrays."""
    leaves = jax.tree.leaves(tree)
    return sum(x.size for x in leaves), sum(x.size * x.dtype.itemsize for x in leaves)
