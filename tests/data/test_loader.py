# SPDX-License-Identifier: Apache-2.0
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnjax.data.loader import Loader
from cnnjax.errors import RunError

ROOT = Path(__file__).parents[2]
_PARENT = """
import multiprocessing
from cnnjax.data.loader import Loader
from tests.data.test_loader import Squares

if __name__ == "__main__":
    loader = Loader(Squares(), 2, 2)
    loader.items(0, 3)
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    loader.items(3, 10**6)
"""


class Squares:
    """Items without pictures: the step, squared."""

    names = ("image",)

    def __init__(self, failing: int = -1):
        self.failing, self.closed = failing, 0

    def __len__(self) -> int:
        return 2**31 - 1

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        if step == self.failing:
            raise RunError("picture 7 is gone")
        return {"image": np.full((2, 3), step * step), "mask": np.ones(2, np.float32)}

    def blank(self) -> dict[str, np.ndarray]:
        return {"image": np.zeros((2, 3)), "mask": np.zeros(2, np.float32)}

    def close(self) -> None:
        self.closed += 1


def make(batches: Any, workers: int = 0, **options: Any) -> Loader:
    return Loader(batches, workers, 2, **options)


def steps(items: Any) -> list[int]:
    return np.sqrt(items["image"][:, 0, 0]).astype(int).tolist()


def test_items_of_any_steps_in_any_order():
    loader = make(Squares())
    for first, count in ((0, 3), (3, 1), (4, 2), (0, 1), (2**31 - 5, 2)):
        items = loader.items(first, count)
        assert steps(items) == list(range(first, first + count))
        assert {name: x.shape for name, x in items.items()} == {"image": (count, 2, 3), "mask": (count, 2)}
        assert {name: x.shape for name, x in loader.blank(count).items()} == {
            name: x.shape for name, x in items.items()
        }
    loader.close()


def test_waiting_is_counted_once():
    loader = make(Squares())
    loader.items(0, 1)
    assert loader.waited() > 0
    assert loader.waited() == 0
    loader.close()


def test_the_workers_are_let_go_after_the_last_step():
    batches = Squares()
    loader = make(batches, num_steps=4)
    loader.items(0, 3)
    before = batches.closed
    loader.items(3, 1)
    assert batches.closed == before + 1
    assert steps(loader.items(0, 2)) == [0, 1]
    loader.close()


def test_an_error_in_a_thread_is_ours():
    loader = make(Squares(failing=3))
    loader.items(0, 3)
    with pytest.raises(RunError, match=r"^picture 7 is gone$"):
        loader.items(3, 1)
    assert steps(loader.items(4, 1)) == [4]
    loader.close()


@pytest.mark.slow
def test_worker_processes():
    loader = make(Squares(failing=9), workers=2)
    assert steps(loader.items(2, 5)) == [2, 3, 4, 5, 6]
    with pytest.raises(RunError, match=r"^picture 7 is gone$"):
        loader.items(7, 4)
    loader.items(20, 1)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        worker.terminate()  # SIGTERM, which a group of processes may get; it is the parent's business
    assert steps(loader.items(21, 6)) == list(range(21, 27))
    for worker in workers:
        worker.kill()
    with pytest.raises(RunError, match=r"a worker process of the data ended .* config.data.workers"):
        loader.items(27, 50)
    loader.close()
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(_PARENT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        parent.kill()
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in workers):
            return
        time.sleep(0.1)
    raise AssertionError("the workers live on")
