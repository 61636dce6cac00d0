# SPDX-License-Identifier: Apache-2.0
"""Our side of a measurement: the steps that `train` and `evaluate` take, and the stream of data by itself."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cnnjax import devices
from cnnjax.bench.measure import Side, Split
from cnnjax.data.streams import device_config
from cnnjax.errors import UsageError, unknown
from cnnjax.experiment import Training, build_training
from cnnjax.host_memory import StepMemory, compiling
from cnnjax.preprocess import make_prepare
from cnnjax.types import Array, Config, Dataset, Model, PyTree, Stream

MODES = ("train", "eval", "input")
OUTPUTS = {"classification": "logits", "reconstruction": "recon"}  # what is read of a network, by task

Call = Callable[[PyTree], PyTree]


class _Program(NamedTuple):
    """A compiled step.

    Attributes:
      call: `call(items)`, starts the steps of one call and returns what they put out.
      idle: the same, with a program of the same arguments and results that computes nothing.
      lowered: of `call`.
      num_steps: in one call.
    """

    call: Call
    idle: Call
    lowered: Any
    num_steps: int


def make_side(name: str, mode: str, config: Config, model: Model, dataset: Dataset) -> Side:
    """Steps of `model` on `dataset`, compiled.

    Args:
      name: of the side.
      mode: "train": whole steps of training; "eval": from stored pixels to the outputs that the task reads; "input":
        stored pixels to the network's input, augmentation included, without the network.
      config: of the experiment.
      model: which may be another than the config's.
      dataset: with the split `train`.
    """
    mesh = devices.make_mesh()
    training = build_training(config, model, dataset, mesh)
    stream = training.stream
    prepare = _make_prepared(config, stream, dataset, mesh, train=mode != "eval")
    if mode == "train":
        program = _training_program(training, mesh)
    elif mode == "eval":
        program = _inference_program(training, model, prepare, OUTPUTS.get(config.task.name, ""), mesh)
    elif mode == "input":
        program = _forward_program(lambda _, *data: prepare(*data), (), stream, None)
    else:
        raise UsageError(unknown("mode", mode, MODES))
    compiled, seconds, cached = _compile(program.lowered)
    memory = compiled.memory_analysis()
    step_memory = StepMemory(memory)
    # The trainer reads the numbers of every step; what inference puts out stays on the device.
    read = jax.device_get if mode == "train" else jax.block_until_ready
    position = 0

    def next_items() -> PyTree:
        nonlocal position
        position += program.num_steps
        return stream.items(position - program.num_steps, program.num_steps)

    def run(steps: int) -> int:
        """As the trainer: the numbers of one call are read while the next one runs, if that may be sent so early."""
        calls, running = -(-steps // program.num_steps), []
        for _ in range(calls):
            running.append(program.call(next_items()))
            if len(running) > step_memory.calls_ahead:
                read(running.pop(0))
                step_memory.called()
        read(running)
        return calls * program.num_steps

    alone = jax.jit(prepare)

    def split(steps: int) -> Split:
        """Steps one at a time, each part of them awaited before the next."""
        rows = []
        for turn in range(1 + max(1, -(-steps // program.num_steps))):
            start = time.perf_counter()
            items = next_items()
            data = time.perf_counter() - start
            host = _seconds(lambda: read(program.idle(items)))  # noqa: B023, called at once
            whole = _seconds(lambda: read(program.call(items)))  # noqa: B023
            compute = max(whole - host, 0.0)
            preparing = compute
            if mode != "input":
                one = jax.tree.map(lambda x: x[:1], items)
                seconds = _seconds(lambda: alone(stream.arrays, one)) - host  # noqa: B023
                preparing = min(max(seconds, 0.0) * program.num_steps, compute)
            if turn:  # the first turn compiles
                rows.append((data, min(host, whole), compute, preparing))
        return Split(*(statistics.median(column) / program.num_steps for column in zip(*rows, strict=True)))

    temp, arguments = (memory.temp_size_in_bytes, memory.argument_size_in_bytes) if memory else (None, None)
    return Side(name, stream.batch_size, run, seconds, split, temp, arguments, cached)


def device_memory() -> int | None:
    """Bytes that were in use at most on the first device; None where the backend does not tell (a CPU)."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _make_prepared(
    config: Config, stream: Stream, dataset: Dataset, mesh: Mesh, *, train: bool
) -> Callable[[PyTree, PyTree], Any]:
    """`prepared(arrays, items)`: the batch of the first of `items` as the network takes it."""
    config = device_config(config, dataset.splits["train"])
    prepare = make_prepare(config.data, config.augment, len(dataset.label_names))[0 if train else 1]
    key = jax.random.key(config.seed)

    def prepared(arrays: PyTree, items: PyTree) -> Any:
        batch = stream.batch(arrays, jax.tree.map(lambda x: x[0], items))
        return prepare(key, jax.lax.with_sharding_constraint(batch, devices.split_rows(mesh)))

    return prepared


def _training_program(training: Training, mesh: Mesh) -> _Program:
    stream, num_steps, everywhere = training.stream, training.steps_per_dispatch, devices.replicated(mesh)
    state = jax.block_until_ready(training.init())
    abstract = (training.abstract_state, stream.arrays, stream.blank(num_steps), num_steps)
    shapes = jax.eval_shape(training.dispatch, *abstract)[1]

    def nothing(state: PyTree, arrays: PyTree, items: PyTree, count: Array) -> tuple[PyTree, PyTree]:
        del arrays, items, count
        # Behind the barrier JAX does not see that the state is handed on as it came, which would spare its handling.
        return jax.lax.optimization_barrier(state), _zeros(shapes)

    idle = jax.jit(nothing, donate_argnums=0, out_shardings=(everywhere, everywhere))

    def caller(function: Any) -> Call:
        def call(items: PyTree) -> PyTree:
            nonlocal state
            state, rows = function(state, stream.arrays, items, num_steps)
            return rows

        return call

    return _Program(caller(training.dispatch), caller(idle), training.dispatch.lower(*abstract), num_steps)


def _inference_program(
    training: Training, model: Model, prepare: Callable[..., Any], wanted: str, mesh: Mesh
) -> _Program:
    state = training.init()

    def infer(variables: PyTree, arrays: PyTree, items: PyTree) -> Any:
        params, model_state = variables
        outputs, _ = model.apply(params, model_state, prepare(arrays, items)["image"], train=False)
        # One output, as in use: what else the network names is not computed for nobody.
        return outputs.get(wanted, outputs)

    return _forward_program(infer, (state.params, state.model_state), training.stream, devices.replicated(mesh))


def _forward_program(function: Callable[..., Any], variables: PyTree, stream: Stream, sharding: Any) -> _Program:
    program = jax.jit(function, out_shardings=sharding)
    arguments = (variables, stream.arrays, stream.blank(1))
    shapes = jax.eval_shape(program, *arguments)
    idle = jax.jit(lambda *_: _zeros(shapes), out_shardings=sharding)
    return _Program(
        lambda items: program(variables, stream.arrays, items),
        lambda items: idle(variables, stream.arrays, items),
        program.lower(*arguments),
        1,
    )


def _zeros(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def _compile(lowered: Any) -> tuple[Any, float, bool]:
    """The compiled program, the seconds it took, and whether it came from the compilation cache."""
    hits: list[str] = []

    def listen(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        start = time.perf_counter()
        with compiling():
            compiled = lowered.compile()
        seconds = time.perf_counter() - start
    finally:
        jax.monitoring.unregister_event_listener(listen)
    return compiled, seconds, bool(hits)
