# SPDX-License-Identifier: Apache-2.0
"""A disk that fills up and has room again, and folders that cannot be written to, before a run and in its midst."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnnjax.verify.session import checkpoints
from tests.faults.runs import Run, arrays, assert_same, finished

WIDE = ("model.hidden=(256,)", "train.num_steps=24")  # checkpoints of some 200 KiB


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on a disk that has room."""
    return finished(tmp_path_factory.mktemp("disk") / "whole", *WIDE)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves so many bytes free."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - leave)))
    return ballast


def told(run: Run) -> str:
    """The one line of a run that could not go on."""
    assert run.code() == 1, run.told()
    (line,) = [line for line in run.told().splitlines() if line.startswith("error: ")]
    assert "Traceback" not in run.told()
    return line


@pytest.mark.parametrize(
    "leave", [150_000, *(pytest.param(n, marks=pytest.mark.slow) for n in (1_000, 50_000, 100_000))]
)
def test_a_disk_full_while_saving_is_told_and_nothing_is_lost_when_it_has_room_again(whole, disk, leave):
    begun = Run(disk / "run", *WIDE)
    while 8 not in checkpoints(disk / "run")[1]:
        assert begun.process.is_alive(), begun.told()
        time.sleep(0.0005)
    ballast = fill(disk, leave)
    assert "no space left" in told(begun).lower()
    ballast.unlink()
    again = Run(disk / "run", *WIDE)
    assert again.code() == 0 and "going on from step" in again.told(), again.told()
    assert_same(whole, disk / "run")


def test_a_disk_without_any_room_is_told_before_a_step(disk):
    fill(disk, 0)
    line = told(Run(disk / "run", *WIDE))
    assert "No space left" in line and ("make room" in line or "workdir" in line)


def test_a_folder_that_can_only_be_read_is_told_and_what_is_in_it_stays(whole, disk):
    done = shutil.copytree(whole, disk / "run")
    before = arrays(done)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for workdir in (done, disk / "new"):
        line = told(Run(workdir, *WIDE))
        assert f"cannot write to the workdir {workdir}" in line and "choose another --workdir" in line
    assert arrays(done).keys() == before.keys()
