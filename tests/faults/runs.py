# SPDX-License-Identifier: Apache-2.0
"""Runs in processes of their own, and whether two ended alike."""

import json
import multiprocessing
import os
import signal
import tempfile
import warnings
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.report.log import read_metrics
from cnnjax.verify.compare import TIMES

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.faults.child"])  # jax and its like are imported once for all the runs


class Run:
    """A run that goes on in a process of its own, from its creation on."""

    def __init__(self, workdir: Path, *overrides: str, clock: str = ""):
        from tests.faults import child

        self.workdir = workdir
        with tempfile.NamedTemporaryFile(prefix="run-", suffix=".log", delete=False) as log:
            self._log = Path(log.name)  # not beside the workdir, where there may be no room
        arguments = str(workdir), overrides, str(self._log), clock
        self.process: ForkServerProcess = _server.Process(target=child.train, args=arguments, daemon=True)
        self.process.start()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def code(self, seconds: float | None = None) -> int | None:
        """The exit code, -9 of one that was killed; None when it still runs after so many seconds."""
        self.process.join(seconds)
        return self.process.exitcode

    def told(self) -> str:
        """What it printed."""
        return self._log.read_text()


def finished(workdir: Path, *overrides: str) -> Path:
    """The folder of a run that nothing befalls."""
    run = Run(workdir, *overrides)
    assert run.code() == 0, run.told()
    return workdir


def arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the last checkpoint by its path."""
    from orbax.checkpoint import v1 as ocp

    last = max((workdir / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name) if path.name.isdigit() else 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that shardings are not given; one process reads all here
        tree = ocp.load(str(last), checkpointable_name="state")
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def records(workdir: Path) -> list[dict[str, Any]]:
    """The numbers of `metrics.jsonl`, without how long they took."""
    return [{k: v for k, v in record.items() if k not in TIMES} for record in read_metrics(workdir)]


def assert_same(whole: Path, other: Path) -> None:
    """Both ended with the same bits: arrays of the last checkpoint, every number of the log, the results."""
    a, b = arrays(whole), arrays(other)
    assert a.keys() == b.keys() and len(a) > 8
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)
    assert records(whole) == records(other)
    left, right = (json.loads((path / "results.json").read_text()) for path in (whole, other))
    assert {**left, "seconds": 0} == {**right, "seconds": 0}
