# SPDX-License-Identifier: Apache-2.0
"""A run killed at random moments and started again ends bit for bit as one that was not."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

KILLS = 10
ROOT = Path(__file__).parents[1]
CONFIG = (
    "--config=experiments/lenet5_digits.py",
    "--config.train.num_epochs=8",
    "--config.train.checkpoint_every_steps=5",
    "--config.train.ema_decay=0.99",
    "--config.augment.mixup=0.2",
)


def start(workdir: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "run.py", *CONFIG, f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def arrays(workdir: Path) -> dict[str, np.ndarray]:
    from orbax.checkpoint import v1 as ocp

    last = max((workdir / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that shardings are not given; one process reads all here
        tree = ocp.load(str(last), checkpointable_name="state")
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.slow
def test_kill_9_at_ten_random_moments(tmp_path: Path):
    begun = time.monotonic()
    whole = start(tmp_path / "whole")
    assert whole.wait(600) == 0
    seconds = time.monotonic() - begun
    moments, killed = random.Random(0), []
    while len(killed) < KILLS:
        process = start(tmp_path / "killed")
        try:
            process.wait(moments.uniform(0.2, 0.95) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            steps = [int(p.name) for p in (tmp_path / "killed" / "checkpoints").glob("[0-9]*") if p.name.isdigit()]
            killed.append(max(steps, default=0))
        else:  # it came to the end: begin again, so that all the kills fall into training
            assert process.returncode == 0
            assert_same(arrays(tmp_path / "whole"), arrays(tmp_path / "killed"))
            shutil.rmtree(tmp_path / "killed")
    last = start(tmp_path / "killed")
    assert last.wait(600) == 0
    print(f"killed at (last checkpoint): {killed}; a whole run takes {seconds:.0f} s")
    assert_same(arrays(tmp_path / "whole"), arrays(tmp_path / "killed"))
    whole_results, results = (json.loads((tmp_path / n / "results.json").read_text()) for n in ("whole", "killed"))
    assert whole_results == results


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys() and len(a) > 30
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)
