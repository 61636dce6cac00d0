# SPDX-License-Identifier: Apache-2.0
"""A clock that jumps by days, or is set back between two sessions of a run."""

import signal
import time
from pathlib import Path

import pytest

from cnnjax.report.log import read_metrics
from cnnjax.verify.session import checkpoints
from tests.faults.runs import Run, assert_same, finished

LONG = "train.num_steps=80"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("clock") / "whole", LONG)


def test_a_jumping_clock_changes_nothing(tmp_path: Path, whole: Path):
    run = Run(tmp_path / "jumps", LONG, clock="jumps")
    assert run.code() == 0, run.told()
    assert_same(whole, tmp_path / "jumps")
    assert all(record.get("seconds", 0) >= 0 for record in read_metrics(tmp_path / "jumps"))


def test_a_run_goes_on_though_the_clock_was_set_back_by_a_year(tmp_path: Path, whole: Path):
    run = Run(tmp_path / "back", LONG)
    while 8 not in checkpoints(tmp_path / "back")[1]:
        assert run.process.is_alive(), run.told()
        time.sleep(0.0005)
    run.kill(signal.SIGTERM)
    assert run.code() == 143, run.told()
    again = Run(tmp_path / "back", LONG, clock="back")
    assert again.code() == 0, again.told()
    assert_same(whole, tmp_path / "back")
