# SPDX-License-Identifier: Apache-2.0
"""`run.py train` in two processes on the loopback interface: what it computes, and how it ends."""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cnnjax.report.log import read_metrics
from cnnjax.training_run import train_run
from tests.faults.runs import assert_same
from tests.processes import child

_server = multiprocessing.get_context("forkserver")  # that of tests.faults.runs, which has imported jax
ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5  # relative: only the order of sums differs
NEVER = 300.0  # seconds after which a process that should have ended is taken for stuck

SMALL = (
    "model.hidden=(8,)",
    "data.batch_size=16",
    "data.eval_batch_size=100",  # the 144 and 359 pictures of validation and test are no multiple of it
    "augment.shift=1",
    "optimizer.learning_rate=0.05",
    "train.num_steps=4",
    "train.eval_every_steps=2",
    "train.checkpoint_every_steps=2",
    "train.log_every_steps=1",
)
LONG = (
    "train.num_steps=2000",  # the notice of a signal takes a second or two to reach all
    "train.eval_every_steps=300",
    "train.checkpoint_every_steps=100",
    "train.log_every_steps=100",
    "train.steps_per_dispatch=5",
)


UNDRAWN = "from cnnjax import commands, pictures; pictures.draw = lambda *_: None; raise SystemExit(commands.main())"


class Process:
    """`run.py` with some arguments, in a process group of its own; without pictures, which take seconds."""

    def __init__(self, folder: Path, *arguments: str, devices: int = 1, draws: bool = False):
        variables = {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        self._log = folder / f"{time.monotonic_ns()}.log"
        with self._log.open("w") as log:
            self.popen = subprocess.Popen(
                [sys.executable, *(["run.py"] if draws else ["-c", UNDRAWN]), *arguments],
                env={**os.environ, **variables},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def code(self, seconds: float = NEVER) -> int:
        """The exit code, -9 of one that was killed."""
        return self.popen.wait(seconds)

    def told(self) -> str:
        """What it printed."""
        return self._log.read_text()

    def end(self) -> None:
        """Kills what is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def flags(workdir: Path, *overrides: str) -> tuple[str, ...]:
    config = (f"--config.{override}" for override in (*SMALL, *overrides))
    return ("train", "--config=experiments/default.py", f"--workdir={workdir}", *config)


def both(workdir: Path, *overrides: str) -> list[tuple[str, ...]]:
    """The arguments of each of two processes."""
    place = (f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", f"--start_seconds={NEVER:.0f}")
    folders = (workdir, unused(workdir))
    return [(*flags(folder, *overrides), *place, f"--process_id={i}") for i, folder in enumerate(folders)]


@contextlib.contextmanager
def two(workdir: Path, *overrides: str, draws: bool = False) -> Iterator[list[Process]]:
    """Two processes that train as one in `workdir`; the second is given a folder of its own, which it needs not."""
    started: list[Process] = []
    try:
        started += [Process(workdir.parent, *each, draws=draws) for each in both(workdir, *overrides)]
        yield started
    finally:
        for process in started:
            process.end()


def unused(workdir: Path) -> Path:
    return workdir.with_name(f"{workdir.name}-of-process-1")


def finished(workdir: Path, *overrides: str, draws: bool = False) -> Path:
    """The folder of a run of two processes that nothing befalls."""
    with two(workdir, *overrides, draws=draws) as processes:
        codes = [process.code() for process in processes]
        assert codes == [0, 0], [process.told() for process in processes]
        assert "2 processes on 1 host" in processes[0].told() and "2 x cpu" in processes[0].told()
        assert "validation" not in processes[1].told()  # process 0 alone prints
    assert (workdir / "results.json").is_file() and not unused(workdir).exists()
    return workdir


def alone(folder: Path, *arguments: str, devices: int = 1) -> str:
    """What one process prints, which comes to a good end."""
    process = Process(folder, *arguments, devices=devices)
    try:
        assert process.code() == 0, process.told()
    finally:
        process.end()
    return process.told()


def numbers(workdir: Path) -> list[float]:
    """Steps, losses and norms of the log, in its order."""
    names = ("step", "loss", "accuracy", "gradient_norm")
    return [record[name] for record in read_metrics(workdir) for name in names if name in record]


def difference(one: Path, other: Path) -> float:
    """The largest relative one of all logged numbers."""
    a, b = np.array(numbers(one)), np.array(numbers(other))
    assert len(a) == len(b) > 10
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(a), 1e-3)))


@pytest.mark.slow
def test_two_processes_train_as_one_with_two_devices(tiny, tmp_path):
    short = (*SMALL, "train.num_steps=2", "train.eval_every_steps=1")
    train_run(tiny("data.source=digits", *short), str(tmp_path / "one"), draws=False)  # a test has two devices
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    started = [
        _server.Process(target=child.launch, args=(arguments, str(log)), daemon=True)
        for arguments, log in zip(both(tmp_path / "two", *short), logs, strict=True)
    ]
    try:
        for process in started:
            process.start()
        for process in started:
            process.join(NEVER)
        assert [process.exitcode for process in started] == [0, 0], [log.read_text() for log in logs]
    finally:
        for process in started:
            process.kill()
    assert "2 x cpu" in logs[0].read_text() and "validation" not in logs[1].read_text()
    assert not unused(tmp_path / "two").exists()
    assert difference(tmp_path / "one", tmp_path / "two") < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("smallest", [0, 1])
def test_two_processes_train_as_one_with_two_devices_or_one(tmp_path, smallest):
    """Whole parameters, and every array divided over the processes that can be."""
    together = finished(tmp_path / "two", f"train.shard_params={smallest}", draws=True)
    assert (together / "report.html").is_file()
    for devices in (1, 2):
        alone(tmp_path, *flags(tmp_path / f"{devices}"), devices=devices)
        found = difference(tmp_path / f"{devices}", together)
        print(f"shard_params {smallest}, {devices} device(s) and two processes: {found:.1e}")
        assert found < TOLERANCE
    told = alone(tmp_path, "evaluate", f"--workdir={together}", "--json")
    [found] = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    last = json.loads((together / "results.json").read_text())["last"]["test"]
    assert found["num_examples"] == 359 and found["accuracy"] == last["accuracy"]
    assert found["loss"] == pytest.approx(last["loss"], rel=TOLERANCE)


def wait_for_checkpoint(workdir: Path, step: int, processes: list[Process]) -> None:
    """Returns once there is a checkpoint of `step`, long before the end."""
    deadline = time.monotonic() + NEVER
    while not (workdir / "checkpoints" / str(step)).exists():
        assert all(process.popen.poll() is None for process in processes), [process.told() for process in processes]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_what_ends_one_of_two_ends_both_and_they_go_on_to_the_same_bits(tmp_path):
    whole, broken = finished(tmp_path / "whole", *LONG), tmp_path / "broken"
    with two(broken, *LONG) as (first, second):
        wait_for_checkpoint(broken, 100, [first, second])
        second.popen.kill()
        assert first.code(60) == 1
        assert "error: process 1 (" in first.told() and ") is gone: its connection closed" in first.told()
        assert second.code() == -signal.SIGKILL
    with two(broken, *LONG) as processes:
        wait_for_checkpoint(broken, 300, processes)
        processes[1].popen.terminate()
        codes = [process.code(60) for process in processes]
        assert codes == [128 + signal.SIGTERM] * 2, [process.told() for process in processes]
        told = processes[0].told()
        assert "going on from step " in told and "stopped by SIGTERM at step " in told
        step = int(told.partition("stopped by SIGTERM at step ")[2].split(",")[0])
        assert 300 <= step < 2000 and (broken / "checkpoints" / str(step)).exists()
    assert_same(whole, finished(broken, *LONG))
