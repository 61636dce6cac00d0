# SPDX-License-Identifier: Apache-2.0
"""`kill -9` at random moments, among them inside the writing of a checkpoint: the run ends bit for bit as one alone.

CNNJAX_KILLS says how many the slow test tries (100).
"""

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from cnnjax.verify.session import checkpoints
from tests.faults.runs import Run, assert_same

MANY = int(os.environ.get("CNNJAX_KILLS", "100"))


@pytest.mark.parametrize("kills", [3, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_bit_for_bit_as_one_that_was_not(tmp_path: Path, whole: Path, kills: int):
    draw, done, within, rounds = random.Random(kills), 0, 0, 0
    workdir = tmp_path / "killed"
    while done < kills:
        run = Run(workdir)
        if done % 3:
            # Let it write one or two more checkpoints, then strike while it writes the next.
            _wait_for_a_write(run, draw.randrange(1, 3), draw.uniform(0, 0.004))
        else:
            run.code(draw.uniform(0.1, 6.0))  # anywhere: reading data, compiling, training, evaluating, testing
        if run.process.exitcode is None:
            run.kill()
            assert run.code() == -9
            done, within = done + 1, within + bool(checkpoints(workdir)[0])
        else:  # it came to its end: the next kills fall into another run
            assert run.code() == 0, run.told()
            assert_same(whole, workdir)
            shutil.rmtree(workdir)
            rounds += 1
    last = Run(workdir)
    assert last.code() == 0, last.told()
    assert_same(whole, workdir)
    print(f"{done} kills, {within} within writing a checkpoint; {rounds + 1} runs came to their ends")
    assert within >= kills // 4


def _wait_for_a_write(run: Run, count: int, delay: float) -> None:
    """Returns `delay` seconds after the run began to write its `count`-th checkpoint, or when it has ended."""
    stale, old = checkpoints(run.workdir)  # what an earlier one left half written is cleared away first
    begun: set[int] = set()
    while run.process.is_alive():
        writing, saved = checkpoints(run.workdir)
        stale &= writing
        begun |= (writing - stale) | (saved - old)
        if len(begun) >= count:
            time.sleep(delay)
            return
        time.sleep(0.0005)
