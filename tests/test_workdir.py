# SPDX-License-Identifier: Apache-2.0
"""The folder of a run belongs to one process at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from cnnjax.errors import RunError
from cnnjax.report.environment import write_json
from cnnjax.workdir import hold

HOLDER = """
import sys, time
from pathlib import Path
from cnnjax.workdir import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_a_dead_one_lets_go(tmp_path: Path):
    folder = tmp_path / "runs" / "a"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        write_json(folder / "environment.json", {"pid": process.pid, "host": "here", "start_time": "today"})
        with pytest.raises(RunError) as caught, hold(folder):
            pass
        assert f"another process is training in {folder} (process {process.pid} on here, since today)" in str(
            caught.value
        )
        with hold(tmp_path / "runs" / "b"):
            pass
    finally:
        process.kill()
        process.communicate()
    with hold(folder):
        pass


def test_it_can_be_taken_again_once_it_is_left(tmp_path: Path):
    for _ in range(2):
        with hold(tmp_path / "run"):
            assert (tmp_path / "run").is_dir()
    with pytest.raises(ZeroDivisionError), hold(tmp_path / "run"):
        _ = 1 / 0
    with hold(tmp_path / "run"):
        pass


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="/proc is a folder that nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "run", Path("/proc/self/run")):
        with pytest.raises(RunError, match=r"cannot write to the workdir .*; choose another --workdir"), hold(folder):
            pass
