# SPDX-License-Identifier: Apache-2.0
"""The loop around the compiled step: what passes between host and device, and when."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from cnnjax import experiment, train
from cnnjax.data import load_dataset
from cnnjax.devices import make_mesh
from cnnjax.experiment import build_model, build_training
from cnnjax.host_memory import StepMemory
from cnnjax.members import Member
from cnnjax.parts import build
from cnnjax.report.log import read_metrics
from cnnjax.training_run import train_run


class Nothing:
    """A log and a store of checkpoints that keep nothing."""

    directory = "nowhere"

    def __init__(self) -> None:
        self.records: list[dict[str, float]] = []

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        self.records.append({"step": step, **metrics})

    def holds(self, step: int, split: str) -> bool:
        return True

    def unlogged(self, step: int) -> list[Any]:
        return []

    def save(self, *_: Any, **options: Any) -> None: ...

    def wait(self) -> None: ...


def fit(config: Any, dispatch: Any = None, **stream: Any) -> Nothing:
    dataset = load_dataset(config.data)
    parts = build_training(config, build_model(config, len(dataset.label_names)), dataset, make_mesh())
    log: Any = Nothing()
    train.fit(
        parts.init(),
        dispatch(parts.dispatch) if dispatch else parts.dispatch,
        parts.stream._replace(**stream),
        parts.plan._replace(evaluate_at=frozenset(), save_at=frozenset()),
        [Member("", lambda step: np.float32(0.1), log, log, lambda state: {})],
        steps_per_dispatch=parts.steps_per_dispatch,
        eval_split="validation",
        keep_best=False,
    )
    return log


class Calls(NamedTuple):
    """A compiled function with something around its calls."""

    call: Callable[..., Any]
    lower: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)


@pytest.mark.parametrize("steps", [0, 2])  # 0: chosen by what a step costs, which is seen from its trace
def test_the_step_is_traced_once_for_all_that_precedes_the_first(tiny, monkeypatch, steps):
    traced, make = [], experiment.make_train_step

    def make_counted(*args: Any, **options: Any) -> Any:
        train_step = make(*args, **options)

        def counted(*args: Any) -> Any:
            traced.append(args)
            return train_step(*args)

        return counted

    monkeypatch.setattr(experiment, "make_train_step", make_counted)
    training = build(tiny(f"train.steps_per_dispatch={steps}")).training
    train.compile_dispatch(training.dispatch, training.init(), training.stream, training.steps_per_dispatch)
    assert len(traced) == 1


@pytest.mark.parametrize(
    ("ahead", "order"),
    [
        (1, "call 0, call 1, read 0, call 2, read 1, read 2, call 3, read 3"),
        (0, "call 0, read 0, call 1, read 1, call 2, read 2, call 3, read 3"),
    ],
)
def test_the_host_reads_a_call_while_the_next_one_runs_unless_that_needs_much_memory(tiny, monkeypatch, ahead, order):
    monkeypatch.setattr(StepMemory, "calls_ahead", ahead)
    events, calls, reads = [], iter(range(100)), iter(range(100))
    get = jax.device_get

    def reading(x: Any) -> Any:
        if isinstance(x, dict) and "loss" in x:
            events.append(f"read {next(reads)}")
        return get(x)

    monkeypatch.setattr(train.jax, "device_get", reading)
    config = tiny("train.num_steps=8", "train.log_every_steps=6", "train.steps_per_dispatch=2")

    def watched(dispatch: Any) -> Any:
        def call(*arguments: Any) -> Any:
            events.append(f"call {next(calls)}")
            return dispatch(*arguments)

        return Calls(call, dispatch.lower)

    log = fit(config, watched)
    assert ", ".join(events) == order
    assert [record["step"] for record in log.records] == [6, 8]


def test_nothing_crosses_unasked_inside_the_loop(tiny):
    """Only row numbers go in and sums come out, both by explicit and asynchronous copies; nothing else waits."""
    config = tiny("train.num_steps=6", "train.log_every_steps=3", "train.steps_per_dispatch=2", "augment.mirror=0.5")

    def guarded(dispatch: Any, count: Any = lambda count: count) -> Any:
        def call(*arguments: Any) -> Any:
            with jax.transfer_guard("disallow"):
                return dispatch(*arguments[:3], count(arguments[3]))

        return Calls(call, dispatch.lower)

    assert len(fit(config, guarded).records) == 2
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        fit(config, lambda dispatch: guarded(dispatch, int))


def test_times_leave_compilation_out(tiny, tmp_path):
    train_run(tiny(), str(tmp_path))
    records = [record for record in read_metrics(tmp_path) if record["split"] == "train"]
    assert ["compile_seconds" in record for record in records] == [True, False, False]
    for record in records:  # each of two steps of 16 images
        assert record["images_per_second"] * record["seconds"] == pytest.approx(32)
    seconds = json.loads((tmp_path / "results.json").read_text())["seconds"]
    assert seconds["train"] == pytest.approx(sum(record["seconds"] for record in records))
    assert seconds["compile"] == records[0]["compile_seconds"] > 0


def test_every_call_runs_the_program_compiled_before_the_first(tiny):
    held = []

    def keep(dispatch: Any) -> Any:
        held.append(dispatch)
        return dispatch

    fit(tiny("train.num_steps=5", "train.log_every_steps=2", "train.steps_per_dispatch=2"), keep)
    assert held[0]._cache_size() == 1


def test_items_of_rows_train_as_whole_ones_do(tiny):
    """Which in one process are the same rows, but lie divided over the devices."""
    whole, divided = fit(tiny()), fit(tiny(), local=True)
    assert [r["loss"] for r in whole.records] == [r["loss"] for r in divided.records]
