# SPDX-License-Identifier: Apache-2.0
"""From a config to the pure values of an experiment, composed once: the one place that knows all the parts."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnnjax import devices, trust
from cnnjax.augment import needs_partner
from cnnjax.checkpoint import FOLDER, Checkpoints
from cnnjax.config import load_run_config
from cnnjax.data.streams import device_config, eval_stream, most_steps, train_stream
from cnnjax.errors import RunError, UsageError
from cnnjax.evaluate import Evaluate, judge, logits_of, make_evaluate, make_scores
from cnnjax.inspect.steps import macs
from cnnjax.inspect.trace import trace
from cnnjax.lookahead import make_lookahead
from cnnjax.metrics import Evaluation
from cnnjax.models import get_model
from cnnjax.models.adapter import compute_in
from cnnjax.models.frozen import freeze
from cnnjax.optim import duration, epochs_to_steps, frozen_at, make_optimizer, make_schedule, training_starts
from cnnjax.outline import outlined
from cnnjax.param_groups import param_groups
from cnnjax.preprocess import make_prepare, make_prepare_view
from cnnjax.protocols.dense import make_dense
from cnnjax.protocols.protocol import make_protocol, sized
from cnnjax.sharding import divide, gather_in_training
from cnnjax.shared import open_checkpoints
from cnnjax.step import (
    Dispatch,
    TrainStep,
    first_state,
    init_state,
    make_dispatch,
    make_stream_step,
    make_train_step,
    with_key,
)
from cnnjax.tasks import balanced_weights, make_task, weigh_classes
from cnnjax.train import Plan, blank_arguments
from cnnjax.types import Array, Batch, Config, Dataset, Model, ModelState, Params, PyTree, Split, Stream, TrainState
from cnnjax.workdir import DatasetInfo, dataset_info

LoadSplit = Callable[[Config], Split]
"""`load(data)`: a split read as `data`, a `config.data`, says."""
LogitsOf = Callable[[Params, ModelState, LoadSplit], np.ndarray]
"""`logits(params, model_state, load)`: what a network says of each example of a split, float32 [N,K]."""


# What `Model.init_from_data` is given: 5,000 images, as airbench94 takes, or what fills a quarter of a GiB as float32.
INIT_IMAGES, INIT_VALUES = 5_000, 2**26


class Training(NamedTuple):
    """All that `train.fit` needs."""

    model: Model
    plan: Plan
    stream: Stream
    schedule: optax.Schedule
    steps_per_dispatch: int
    dispatch: Dispatch
    init: Callable[[], TrainState]
    init_from: Callable[[Array], TrainState]  # as `init`, by another key than the config's
    abstract_state: TrainState  # shapes, dtypes and shardings
    later: tuple[tuple[int, Dispatch], ...] = ()  # after so many steps this program takes over (config.unfreeze)


class Start(NamedTuple):
    """Trained parameters to start from.

    Attributes:
      params: all of the network's.
      model_state: likewise.
      new: paths of the parameters that have no trained value.
    """

    params: Params
    model_state: ModelState
    new: frozenset[str]


class Network(NamedTuple):
    """A trained network out of its workdir, ready to be used without the training set."""

    config: Config
    info: DatasetInfo
    model: Model
    step: int
    params: Params
    model_state: ModelState


def build_model(config: Config, num_classes: int) -> Model:
    """The network of `config.model`, computing in `config.train.dtype`; code must be the user's word (`trust`)."""
    trust.check(config.model.name)
    arguments = config.model.to_dict()
    model = get_model(arguments.pop("name"), arguments, num_classes=num_classes)
    return compute_in(model, config.train.dtype)


def build_training(
    config: Config, model: Model, dataset: Dataset, mesh: Mesh, load_start: Callable[[Array], Start] | None = None
) -> Training:
    """Everything that trains `model` on `dataset` as `config` says, from `load_start(key)` or from random parameters.

    Raises:
      UsageError: numbers that do not fit each other, such as a batch larger than the set.
    """
    if config.optimizer.l2_sp and not config.init_from:
        raise UsageError("config.optimizer.l2_sp pulls to the weights of config.init_from, which is not set; set it")
    split, batch_size = dataset.splits["train"], config.data.batch_size
    devices.check_enough(len(split.label), mesh)
    devices.check_divides(batch_size, mesh, "config.data.batch_size")
    if batch_size % config.train.accumulate:
        raise UsageError(
            f"config.train.accumulate = {config.train.accumulate} does not divide config.data.batch_size = {batch_size}"
        )
    put = partial(devices.place_replicated, mesh=mesh)
    mixes = needs_partner(config.augment)
    key = jax.random.key(config.seed)
    stream = with_key(train_stream(config, split, with_partner=mixes, put=put), key, mesh)
    config = device_config(config, split)
    plan = make_plan(config.train, stream.num_examples / batch_size)
    image = jax.ShapeDtypeStruct((1, *split.image.shape[1:]), jnp.float32)  # one, as in check_named: a trace for all
    params = jax.eval_shape(model.init, jax.random.key(0), image)[0]
    trained = gather_in_training(model, divide(params, mesh, config.train.shard_params))
    train_step, tx, schedule = build_train_step(config, trained, image, class_counts(dataset), plan)
    groups = param_groups(config, params)
    begins = training_starts(groups, steps_per_epoch=plan.steps_per_epoch, num_steps=plan.num_steps)
    most = most_steps(stream, plan.log_every)
    _, prepare_plain = make_prepare(config.data, config.augment, len(dataset.label_names))
    pixels = None if model.init_from_data is None else _init_images(split)
    kept = {"ema": config.train.ema_decay > 0, "lookahead": config.optimizer.lookahead > 0}

    def init(pixels: Array | None, key: Array) -> TrainState:
        data = None
        if pixels is not None:
            rows = jnp.zeros(len(pixels), jnp.int32)
            data = prepare_plain(key, Batch(image=pixels, label=rows, mask=rows))["image"]
        traced_once = model._replace(init=jax.jit(model.init, inline=True))
        return init_state(traced_once, tx, jnp.zeros(image.shape, image.dtype), key, **kept, data=data)

    def from_start(key: Array) -> TrainState:
        assert load_start is not None
        start = load_start(key)
        own = make_optimizer(config.optimizer, schedule, groups, steps_per_epoch=plan.steps_per_epoch, new=start.new)
        begun = jax.jit(partial(first_state, tx=own, **kept), out_shardings=placed)
        return begun(*devices.place_replicated((start.params, start.model_state), mesh))

    shapes = jax.eval_shape(init, pixels, key)
    placed = divide(shapes, mesh, config.train.shard_params)
    abstract = jax.tree.map(lambda x, lies: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lies), shapes, placed)
    step = make_stream_step(train_step, stream, mesh)
    everywhere = devices.replicated(mesh)
    items, _ = blank_arguments(abstract, stream, 1)
    item = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=everywhere), items)
    steps = config.train.steps_per_dispatch or _steps_per_dispatch(step, (abstract, stream.arrays, item), most)

    def program(first_step: int) -> Dispatch:
        later, *_ = build_train_step(config, trained, image, class_counts(dataset), plan, first_step=first_step)
        return make_dispatch(make_stream_step(later, stream, mesh), mesh, steps_per_dispatch=steps, state=placed)

    dispatch = make_dispatch(step, mesh, steps_per_dispatch=steps, state=placed)
    init_from = from_start if load_start else partial(outlined(init, sharding=placed), pixels)
    later = tuple((first_step, program(first_step)) for first_step in begins[1:])
    return Training(model, plan, stream, schedule, steps, dispatch, partial(init_from, key), init_from, abstract, later)


def build_train_step(
    config: Config, model: Model, image: Any, count: np.ndarray, plan: Plan, *, first_step: int = 0, **optimizer: Array
) -> tuple[TrainStep, optax.GradientTransformation, optax.Schedule]:
    """The training step of `config` with its optimizer and schedule.

    `image` [B,H,W,C] gives shape and dtype only; `count` [K] are the training examples of each class.
    It is for the steps from `first_step` on, until `config.unfreeze` lets more parameters go (`optim.training_starts`).
    Keys of `config.optimizer` that are given as `optimizer` take the place of the config's; they may be traced.
    """
    settings: Config = ConfigDict({**config.optimizer.to_dict(), **optimizer})
    schedule = make_schedule(
        config.schedule, peak=settings.learning_rate, num_steps=plan.num_steps, steps_per_epoch=plan.steps_per_epoch
    )
    epoch = plan.steps_per_epoch
    params = jax.eval_shape(model.init, jax.random.key(0), image)[0]
    groups = param_groups(config, params)
    tx = make_optimizer(settings, schedule, groups, steps_per_epoch=epoch, first_step=first_step)
    part = freeze(model, params, frozen_at(groups, first_step, steps_per_epoch=epoch))
    task = make_task(config.task, config.data, train=True)
    if config.task.class_weights == "balanced":
        task = weigh_classes(task, balanced_weights(count.tolist()))
    prepare, _ = make_prepare(config.data, config.augment, len(count))
    lookahead = make_lookahead(config.optimizer, plan.num_steps)
    options = {"accumulate": config.train.accumulate, "ema_decay": config.train.ema_decay, "lookahead": lookahead}
    return make_train_step(part, task, tx, prepare, **options), tx, schedule


def class_counts(dataset: Dataset) -> np.ndarray:
    """Training examples of each class, [K] integers."""
    return np.bincount(dataset.splits["train"].label, minlength=len(dataset.label_names))


def _init_images(split: Split) -> np.ndarray:
    """The first training images, as stored: what a network that starts from data sees."""
    return split.image[: min(INIT_IMAGES, INIT_VALUES // math.prod(split.image.shape[1:]))]


def build_evaluate(config: Config, model: Model, split: Split, num_classes: int, mesh: Mesh) -> Evaluate:
    """The evaluation of `model` on one split, pictures as they are (the protocol "single")."""
    _, prepare = make_prepare(config.data, config.augment, num_classes)
    stream = _eval_stream(config, split, mesh)
    return make_evaluate(model, make_task(config.task, config.data, train=False), prepare, stream, split.label, mesh)


def build_logits(config: Config, model: Model, image_shape: tuple[int, int, int], mesh: Mesh) -> LogitsOf:
    """What `model` says of a split under the protocol of `config.eval`.

    Args:
      config: of the run.
      model: the network.
      image_shape: (height, width, channels) that the network was trained on.
      mesh: the devices.

    Returns:
      `logits(params, model_state, load) -> [N,K]`; `load` is called once for each size of the protocol. Called again,
      it compiles nothing.

    Raises:
      UsageError: the protocol does not suit the network or the pictures.
    """
    protocol = make_protocol(config, image_shape)
    runs = []
    for each in protocol.passes:
        shown = make_dense(model, image_shape) if each.dense else model
        prepare = make_prepare_view(config.data, each.views.make)
        runs.append(make_scores(shown, prepare, each.views, mesh, averaging=protocol.averaging))

    def logits(params: Params, model_state: ModelState, load: LoadSplit) -> np.ndarray:
        total: Any = 0
        for each, run in zip(protocol.passes, runs, strict=True):
            stream = _eval_stream(config, load(sized(config.data, each.size)), mesh)
            total = total + run(params, model_state, stream) / len(runs)
        return logits_of(total, protocol.averaging)

    return logits


def build_test(
    config: Config, model: Model, load: LoadSplit, image_shape: tuple[int, int, int], mesh: Mesh
) -> Evaluate:
    """The evaluation of `model` under the protocol of `config.eval`; arguments as for `build_logits`."""
    logits = build_logits(config, model, image_shape, mesh)
    task = make_task(config.task, config.data, train=False)

    def evaluate(params: Params, model_state: ModelState) -> Evaluation:
        return judge(logits(params, model_state, load), load(config.data).label, task)

    return evaluate


def _eval_stream(config: Config, split: Split, mesh: Mesh) -> Stream:
    batch_size = min(config.data.eval_batch_size, len(split.label))
    batch_size += -batch_size % mesh.size  # padding is masked, so the last batch may be any size
    put = partial(devices.place_replicated, mesh=mesh)
    return eval_stream(config.data, split, batch_size=batch_size, put=put)


def restore_evaluated(checkpoints: Checkpoints, abstract: TrainState, step: int) -> tuple[Params, ModelState]:
    """The parameters of a checkpoint that evaluation uses (the running average where one is kept) and model_state."""
    return _in_use(checkpoints.restore(_parts_in_use(abstract), step))


def _parts_in_use(abstract: TrainState) -> dict[str, Any]:
    part = "ema_params" if abstract.ema_params else "params"
    return {part: getattr(abstract, part), "model_state": abstract.model_state}


def _in_use(stored: Mapping[str, Any]) -> tuple[Params, ModelState]:
    return stored["ema_params" if "ema_params" in stored else "params"], stored["model_state"]


def load_network(workdir: str | None, checkpoint: str = "latest", overrides: Sequence[str] = ()) -> Network:
    """The network of a run.

    Args:
      workdir: the `--workdir` flag.
      checkpoint: "latest", "best" (on the validation split) or a step.
      overrides: "--config.key=value" strings, on top of the run's own config.

    Raises:
      UsageError: no workdir, or an unknown checkpoint.
      RunError: the folder holds no run, no checkpoint, or one of another network.
    """
    if not workdir:
        raise UsageError("no workdir given; add --workdir=DIR, the folder of a training run")
    path = Path(workdir).expanduser()
    config: Config = load_run_config(path, overrides)
    devices.set_up(config.train)
    info = dataset_info(path)
    if not (path / FOLDER).is_dir():
        raise RunError(f"{path} holds no checkpoint yet; train it first")
    model = build_model(config, len(info.label_names))
    image = jax.ShapeDtypeStruct((1, *info.image_shape), jnp.float32)
    params, model_state = jax.eval_shape(model.init, jax.random.key(0), image)
    everywhere = devices.replicated(devices.make_mesh())
    abstract = TrainState(
        *jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
            (jnp.zeros(()), params, model_state, (), params if config.train.ema_decay else {}),
        )
    )
    with contextlib.closing(open_checkpoints(path)) as checkpoints:
        step, (params, model_state) = _restored(checkpoints, abstract, checkpoint)
    return Network(config, info, model, step, params, model_state)


def _restored(checkpoints: Checkpoints, abstract: TrainState, name: str) -> tuple[int, tuple[Params, ModelState]]:
    """(step, its parameters and model_state) of "latest" (the last one that is whole), "best" or a step."""
    steps, restore = checkpoints.steps(), partial(restore_evaluated, checkpoints, abstract)
    if not steps:
        raise RunError(f"{checkpoints.directory} holds no complete checkpoint; train first")
    if name == "latest":
        newest = checkpoints.restore_newest(_parts_in_use(abstract))
        assert newest is not None  # there are steps
        return newest[0], _in_use(newest[1])
    if name == "best":
        best = checkpoints.best()
        if best is None:
            raise UsageError("no checkpoint was scored: the run had no validation split; take --checkpoint=latest")
        return best, restore(best)
    if not name.isdigit() or int(name) not in steps:
        raise UsageError(f"no checkpoint {name!r}; there are latest, best and {', '.join(map(str, steps))}")
    return int(name), restore(int(name))


_MOST_TIMES = 10**5  # that a run is evaluated or saved: each is a number in memory


def make_plan(train: Config, steps_per_epoch: float) -> Plan:
    """The steps of `config.train`; every step that is saved is evaluated, so that the best one can be known."""
    num_steps = duration(train, "num", steps_per_epoch)

    def every(name: str) -> frozenset[int]:
        if num_steps > _MOST_TIMES * duration(train, name, steps_per_epoch):
            raise UsageError(f"config.train.{name}_*: more than {_MOST_TIMES:,} times in {num_steps:,} steps")
        if train[f"{name}_steps"] is not None:
            return frozenset(range(train[f"{name}_steps"], num_steps, train[f"{name}_steps"]))
        epochs, at = train[f"{name}_epochs"], []
        while (step := epochs_to_steps((len(at) + 1) * epochs, steps_per_epoch)) < num_steps:
            at.append(step)
        return frozenset(at)

    save_at = every("checkpoint_every") | {num_steps}
    return Plan(num_steps, steps_per_epoch, train.log_every_steps, every("eval_every") | save_at, save_at)


_STEPS_WORK = 10**10  # multiply-adds of a call of several steps on a CPU: half a second or so on two cores
_FEWEST_STEPS = 8  # with fewer in a call hardly anything is saved


def _steps_per_dispatch(train_step: Callable[..., Any], arguments: Sequence[PyTree], log_every: int) -> int:
    """Many steps in a call save the host's time, which is most of it where a network is small.

    On a CPU large networks take one, so that a signal, and the bar, need not wait for long; and so do those that call
    `jax.lax`'s convolution themselves: XLA's CPU compiler hands it to the fast library only at the top level of a
    program (measured on 2 cores: in a loop the step of a small CIFAR network took 47 times as long).
    """
    if jax.default_backend() != "cpu":
        return log_every
    traced = trace(train_step, *arguments)  # as the call that is compiled later: jax traces it once for both
    if any(eqn.primitive is jax.lax.conv_general_dilated_p for step in traced.steps for eqn in step.eqns):
        return 1
    work = sum(macs(step) * step.times for step in traced.steps)
    steps = min(log_every, _STEPS_WORK // max(work, 1))
    return steps if steps >= min(_FEWEST_STEPS, log_every) else 1
