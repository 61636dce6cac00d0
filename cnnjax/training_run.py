# SPDX-License-Identifier: Apache-2.0
"""A training run in its folder: begin or go on, train, test, and write down what came of it."""

import contextlib
import functools
import json
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from cnnjax import devices
from cnnjax import workdir as folder
from cnnjax.checkpoint import FOLDER as CHECKPOINTS
from cnnjax.checkpoint import Checkpoints, DamagedCheckpoint
from cnnjax.data import load_dataset
from cnnjax.data.overview import check_classes, overview
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
    restore_evaluated,
)
from cnnjax.members import Member
from cnnjax.metrics import Evaluation, confusion_matrix, format_metric
from cnnjax.models import MODELS
from cnnjax.models.check import check_model, check_shipped
from cnnjax.predict import make_infer
from cnnjax.report.environment import write_json
from cnnjax.report.log import METRICS_FILE, RunLog, read_metrics
from cnnjax.report.table import format_bytes, format_count, format_duration, format_table
from cnnjax.strips import FOLDER as STRIPS
from cnnjax.strips import with_strips
from cnnjax.train import fit
from cnnjax.transfer.start import START_FILE, Origin, read_origin
from cnnjax.types import Array, Config, Dataset, Split, TrainState

logger = logging.getLogger(__name__)

CURVES, CONFUSION, MISTAKES = "curves.png", "confusion.png", "mistakes.png"
RECONSTRUCTIONS = "reconstructions.png"
NUM_MISTAKES = 24
NUM_RECONSTRUCTIONS, NUM_WORST = 18, 6  # pictures of all kinds, then those repeated worst


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


def train_run(config: Config, workdir: str, *, accept_changes: bool = False, draws: bool = True) -> str:
    """Trains `config` in `workdir` to its last step and writes down the results; returns them as text.

    Raises:
      UsageError, RunError: as the parts do; what is saved stays.
      Stop: a signal ended the run early.
    """
    started = time.perf_counter()
    path = Path(workdir).expanduser()
    folder.check_kind(path, "run")
    if folder.is_run(path):
        folder.check_same_config(path, config, accept_changes=accept_changes)
    parts = build(config)
    if parts.origin and not any((path / CHECKPOINTS).glob("[0-9]*")):
        parts.origin()  # what is wrong with config.init_from is told before the folder is begun
    with folder.hold(path):
        folder.begin(path, config, folder.describe_dataset(parts.dataset))
        return _trained(parts, path, started, draws=draws)


def _trained(parts: Parts, path: Path, started: float, *, draws: bool) -> str:
    """Trains to the last step, tests, writes and draws, unless the run is finished; tells what there is now."""
    training, keep = parts.training, parts.config.train.keep_checkpoints
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(contextlib.closing(Checkpoints(path, keep=keep, keep_best=parts.chooses)))
        if checkpoints.latest() == training.plan.num_steps and (path / folder.RESULTS_FILE).exists():
            logger.info("the run in %s is finished already, at step %d", path, training.plan.num_steps)
            return f"{_table(json.loads((path / folder.RESULTS_FILE).read_text()))}\n\n{_written(path)}"
        logger.info("%s", headline(parts))
        step, state = _begin_state(training, checkpoints)
        if step is None and parts.config.data.source.startswith("folder:"):  # one's own pictures
            logger.info("\n%s\n", overview(parts.dataset, parts.config.data))
        if step is None and parts.origin:
            report = parts.origin().report
            logger.info("%s", report.text())
            report.write(path)
        log = stack.enter_context(RunLog(path, resume_step=step))
        split = parts.eval_split
        evaluate = with_strips(parts.evaluate, parts.config, training.model, parts.dataset, split, path)
        state = fit(
            state,
            training.dispatch,
            training.stream,
            training.plan,
            [Member("", training.schedule, log, checkpoints, evaluate)],
            steps_per_dispatch=training.steps_per_dispatch,
            eval_split=parts.eval_split,
            keep_best=parts.chooses,
            later=training.later,
        )
        results = conclude(parts, path, state, checkpoints, log, draws=draws)
    took = {"all": time.perf_counter() - started, **results["seconds"]}
    done, train, compiling = (format_duration(took[name]) for name in ("all", "train", "compile"))
    times = f"Done in {done}. The run's steps took {train}, their compilation {compiling}."
    return f"{_table(results)}\n\n{_written(path)}\n{times}"


def conclude(
    parts: Parts, path: Path, state: TrainState, checkpoints: Checkpoints, log: RunLog, *, draws: bool
) -> dict[str, Any]:
    """Tests the last parameters of a run, writes what came of it, draws it if so wished, and returns the results."""
    results, tested = _test(parts, state, checkpoints)
    split = list(parts.evaluators)[-1]
    log.write(results["step"], split, {"epoch": parts.training.plan.epoch(results["step"]), **results["last"][split]})
    results["seconds"] = _seconds(read_metrics(path))
    write_json(path / folder.RESULTS_FILE, results)
    if draws:
        _draw(parts, path, state, tested, split)
    return results


def _begin_state(training: Training, checkpoints: Checkpoints) -> tuple[int | None, TrainState]:
    """(step, state) of the last whole checkpoint; (None, the initial state) where there is none."""
    like = training.abstract_state._asdict()
    found = checkpoints.restore_newest(lambda step: checkpoints.restore(like, step))
    if found is None:
        return None, training.init()
    step, parts = found
    logger.info("going on from step %d of %d, in %s", step, training.plan.num_steps, checkpoints.directory.parent)
    return step, TrainState(**parts)


def describe(config: Config) -> str:
    """What a run of `config` would be: the config, the network's size, memory and steps. Trains nothing."""
    parts = build(config)
    training, plan = parts.training, parts.training.plan
    steps = training.steps_per_dispatch
    arguments = (training.abstract_state, training.stream.arrays, training.stream.items(0, steps), steps)
    memory = training.dispatch.lower(*arguments).compile().memory_analysis()
    rows = [
        ("network", config.model.name),
        ("parameters", format_count(_size(training.abstract_state.params)[0])),
        ("training images", format_count(training.stream.num_examples)),
        ("batch size", format_count(training.stream.batch_size)),
        ("steps per epoch", f"{plan.steps_per_epoch:.2f}"),
        ("steps", f"{format_count(plan.num_steps)} ({plan.epoch(plan.num_steps):.1f} epochs)"),
        ("steps per dispatch", format_count(steps)),
        ("memory: parameters, optimizer and averages", format_bytes(_size(training.abstract_state)[1])),
        ("memory: data", format_bytes(_size(training.stream.arrays)[1])),
        (
            "memory: one step's activations and gradients",
            format_bytes(memory.temp_size_in_bytes) if memory else "not known",
        ),
        ("devices", f"{parts.mesh.size} x {jax.devices()[0].device_kind}"),
    ]
    text = f"{json.dumps(json.loads(config.to_json()), indent=2)}\n\n{format_table(('', ''), rows, 'lr')}"
    return f"{text}\n\n{parts.origin().report.text()}" if parts.origin else text


def build(config: Config) -> Parts:
    """Builds and checks what `config` stands for; its data are read, nothing is compiled yet."""
    devices.use_compilation_cache()
    devices.set_up(config.train)
    mesh = devices.make_mesh()
    dataset = load_dataset(config.data)
    if config.task.name == "classification":
        check_classes(dataset)
    num_classes = len(dataset.label_names)
    model = build_model(config, num_classes)
    check = check_shipped if config.model.name in MODELS else check_model
    check(model, dataset.splits["train"].image.shape[1:], num_classes, name=config.model.name)
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
    steps = training.steps_per_dispatch
    items = training.stream.items(0, steps)
    jax.eval_shape(training.dispatch, training.abstract_state, training.stream.arrays, items, steps)
    return Parts(config, mesh, dataset, training, evaluators, testers, loads, origin)


def _begin(origin: Callable[[], Origin], key: Array) -> Start:
    return origin().begin(key)


def _load(config: Config, dataset: Dataset, name: str, data: Config) -> Split:
    """A split as `data` says; one that `config` does not have, of another size, is read now."""
    return dataset.splits[name] if data is config.data else load_dataset(data, (name,)).splits[name]


def headline(parts: Parts) -> str:
    """Network, data and devices in a line."""
    splits = ", ".join(f"{format_count(len(split.label))} {name}" for name, split in parts.dataset.splits.items())
    count = format_count(_size(parts.training.abstract_state.params)[0])
    name, kind = parts.config.model.name, jax.devices()[0].device_kind
    return f"{name} ({count} parameters) on {parts.dataset.name} ({splits}), {parts.mesh.size} x {kind}"


def _size(tree: Any) -> tuple[int, int]:
    """(elements, bytes) of all arrays."""
    leaves = jax.tree.leaves(tree)
    return sum(x.size for x in leaves), sum(x.size * x.dtype.itemsize for x in leaves)


def _test(parts: Parts, state: TrainState, checkpoints: Checkpoints) -> tuple[dict[str, Any], Evaluation]:
    """Results of the last parameters, and of the best on validation if others; and the last split's evaluation."""
    step, best = int(state.step), checkpoints.best()
    evaluations = {split: run(*evaluated(state)) for split, run in parts.testers.items()}
    results: dict[str, Any] = {"step": step, "last": {name: e.summary() for name, e in evaluations.items()}}
    if parts.config.eval.protocol != "single":
        single = {split: run(*evaluated(state)).summary() for split, run in parts.evaluators.items()}
        results |= {"protocol": parts.config.eval.protocol, "single": single}
    if best is not None and best != step:
        try:
            chosen = restore_evaluated(checkpoints, parts.training.abstract_state, best)
        except DamagedCheckpoint as error:  # the last step's results are none the worse for it
            logger.warning("%s; the results are those of the last step alone", error)
        else:
            splits = {split: run(*chosen).summary() for split, run in parts.testers.items()}
            results["best"] = {"step": best, **splits}
    return results, list(evaluations.values())[-1]


def _seconds(records: list[dict[str, Any]]) -> dict[str, float]:
    """What the run's steps took, compilation apart; sums over all sessions."""
    train = [record for record in records if record["split"] == "train"]
    names = {"train": "seconds", "compile": "compile_seconds"}
    return {name: sum(record.get(key, 0.0) for record in train) for name, key in names.items()}


def _table(results: dict[str, Any]) -> str:
    def row(name: str, step: int, values: dict[str, float]) -> tuple[str, ...]:
        return (name, format_count(step), *(format_metric(metric, values[metric]) for metric in shown))

    how = f" ({results['protocol']})" if "protocol" in results else ""

    shown = list(next(iter(results["last"].values())))
    rows = [row(f"{split}, last step{how}", results["step"], values) for split, values in results["last"].items()]
    if how:
        single = results["single"].items()
        rows += [row(f"{split}, last step (single)", results["step"], values) for split, values in single]
    if "best" in results:
        best = results["best"]
        rows += [row(f"{s}, best on validation{how}", best["step"], best[s]) for s in results["last"]]
    header = ("", "step", *(name.replace("_", " ") for name in shown))
    return format_table(header, rows, "l" + "r" * (len(header) - 1))


def _written(path: Path) -> str:
    """Where to find what: the files of a run, with what each is."""
    files = (
        ("report.html", "all of this on one page"),
        (folder.RESULTS_FILE, "the table above"),
        (START_FILE, "what was loaded from config.init_from"),
        (METRICS_FILE, "every logged number; also in tensorboard/"),
        (CURVES, "loss, learning rate, gradient norm, and accuracy where there is one"),
        (CONFUSION, "which classes are taken for which"),
        (MISTAKES, "the worst errors"),
        (RECONSTRUCTIONS, "pictures beside what the network made of them"),
        (STRIPS, "a few pictures above what the network made of them, at each evaluation"),
        ("checkpoints", "the last and the best parameters"),
    )
    return "\n".join(f"{path / name}  {what}" for name, what in files if (path / name).exists())


def _draw(parts: Parts, path: Path, state: TrainState, evaluation: Evaluation, split: str) -> None:
    # Matplotlib is slow to load, and training need not wait for it.
    from cnnjax.page.one_run import write_report
    from cnnjax.report.curves import plot_curves

    plot_curves(read_metrics(path), path / CURVES, title=f"{path.name}: {parts.dataset.name}")
    if "accuracy" in evaluation.values:
        _draw_errors(parts.dataset, path, evaluation, split)
    if "psnr" in evaluation.values:
        _draw_reconstructions(parts, path, state, evaluation, split)
    model, params = parts.training.model, evaluated(state)[0]
    write_report(path, dataset=parts.dataset, evaluation=evaluation, split=split, model=model, params=params)


def _draw_errors(dataset: Dataset, path: Path, evaluation: Evaluation, split: str) -> None:
    from cnnjax.report.confusion import plot_confusion
    from cnnjax.report.mistakes import plot_mistakes

    assert evaluation.prediction is not None and evaluation.probability is not None  # an accuracy comes from classes
    names = dataset.label_names
    matrix = confusion_matrix(evaluation.label, evaluation.prediction, len(names))
    right = f"{100 * evaluation.summary()['accuracy']:.2f}% right"
    title = f"{dataset.name}, {len(evaluation.label):,} {split} images, {right}"
    plot_confusion(matrix, names, path / CONFUSION, title=title)
    wrong = np.flatnonzero(evaluation.prediction != evaluation.label)
    worst = wrong[np.argsort(-evaluation.values["loss"][wrong], kind="stable")][:NUM_MISTAKES]
    plot_mistakes(
        dataset.splits[split].image[worst],
        [names[i] for i in evaluation.label[worst]],
        [names[i] for i in evaluation.prediction[worst]],
        [float(p) for p in evaluation.probability[worst]],
        path / MISTAKES,
        title=f"{dataset.name}, {split} mistakes",
        total=len(wrong),
    )


def _draw_reconstructions(parts: Parts, path: Path, state: TrainState, evaluation: Evaluation, split: str) -> None:
    from cnnjax.report.reconstructions import plot_reconstructions

    names, images, psnr = parts.dataset.label_names, parts.dataset.splits[split].image, evaluation.values["psnr"]
    spread = np.linspace(0, len(images) - 1, min(NUM_RECONSTRUCTIONS, len(images)), dtype=int)
    worst = np.argsort(psnr, kind="stable")[:NUM_WORST]
    chosen = np.concatenate([spread, worst])
    infer = jax.jit(make_infer(parts.config, parts.training.model, len(names)))
    recons = np.asarray(infer(*evaluated(state), images[chosen])["recon"])
    captions = [f"{names[evaluation.label[i]]}, {format_metric('psnr', float(psnr[i]))}" for i in chosen]
    mean = format_metric("psnr", evaluation.summary()["psnr"])
    title = f"{parts.dataset.name}, {split}: picture and reconstruction, {mean} on average; last the {len(worst)} worst"
    plot_reconstructions(images[chosen], recons, captions, path / RECONSTRUCTIONS, title=title)
