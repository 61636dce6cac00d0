# SPDX-License-Identifier: Apache-2.0
"""A number that leaves the floats in the midst of a run."""

from pathlib import Path

import numpy as np

from tests.faults.runs import Run, arrays

EXPLODES = ("schedule.name=step", "schedule.boundaries_steps=(22,)", "schedule.factor=1e30")


def test_a_nan_ends_the_run_and_leaves_the_last_good_checkpoint(tmp_path: Path):
    run = Run(tmp_path / "run", *EXPLODES)
    assert run.code() == 1
    (line,) = [line for line in run.told().splitlines() if line.startswith("error: ")]
    assert " at step 2" in line and f"the last good checkpoint is step 20 in {tmp_path}/run/checkpoints" in line
    assert "lower config.optimizer.learning_rate" in line
    assert all(np.isfinite(value).all() for value in arrays(tmp_path / "run").values())
