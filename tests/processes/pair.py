# SPDX-License-Identifier: Apache-2.0
"""Two processes on the loopback interface that train as one, and what there is to compare."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cnnjax.report.log import read_metrics

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
UNDRAWN = "from cnnjax import commands, pictures; pictures.draw = lambda *_: None; raise SystemExit(commands.main())"


class Process:
    """`run.py` with some arguments, in a process group of its own; without pictures, which take seconds."""

    def __init__(self, folder: Path, *arguments: str, devices: int = 1, draws: bool = False, cwd: Path = ROOT):
        variables = {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        variables["PYTHONPATH"] = str(ROOT)
        self._log = folder / f"{time.monotonic_ns()}.log"
        with self._log.open("w") as log:
            self.popen = subprocess.Popen(
                [sys.executable, *(["run.py"] if draws else ["-c", UNDRAWN]), *arguments],
                env={**os.environ, **variables},
                cwd=cwd,
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
    return ("train", f"--config={ROOT}/experiments/default.py", f"--workdir={workdir}", *config)


def both(workdir: Path, *overrides: str) -> list[tuple[str, ...]]:
    """The arguments of each of two processes."""
    place = (f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", f"--start_seconds={NEVER:.0f}")
    folders = (workdir, unused(workdir))
    return [(*flags(folder, *overrides), *place, f"--process_id={i}") for i, folder in enumerate(folders)]


@contextlib.contextmanager
def two(
    workdir: Path, *overrides: str, draws: bool = False, cwds: tuple[Path, Path] = (ROOT, ROOT)
) -> Iterator[list[Process]]:
    """Two processes that train as one in `workdir`; the second is given a folder of its own, which it needs not."""
    started: list[Process] = []
    try:
        for arguments, cwd in zip(both(workdir, *overrides), cwds, strict=True):
            started.append(Process(workdir.parent, *arguments, draws=draws, cwd=cwd))
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


def wait_for_checkpoint(workdir: Path, step: int, processes: list[Process]) -> None:
    """Returns once there is a checkpoint of `step`, long before the end."""
    deadline = time.monotonic() + NEVER
    while not (workdir / "checkpoints" / str(step)).exists():
        assert all(process.popen.poll() is None for process in processes), [process.told() for process in processes]
        assert time.monotonic() < deadline
        time.sleep(0.01)
