# SPDX-License-Identifier: Apache-2.0
import io
import json
import math
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import masked_crc32c

from cnnjax.errors import RunError
from cnnjax.report import log as module
from cnnjax.report.log import METRICS_FILE, RunLog, read_metrics


def events(workdir: Path) -> list[list]:
    """The events of each TensorBoard file in the order TensorBoard reads them; checksums are verified."""
    files = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        content, found = path.read_bytes(), []
        while content:
            length, check = struct.unpack("<QI", content[:12])
            data, (data_check,) = content[12 : 12 + length], struct.unpack("<I", content[12 + length : 16 + length])
            assert (check, data_check) == (masked_crc32c(content[:8]), masked_crc32c(data))
            found.append(Event.FromString(data))
            content = content[16 + length :]
        files.append(found)
    return files


def scalars(file: list) -> list[tuple[int, str, float]]:
    return [(event.step, value.tag, value.simple_value) for event in file for value in event.summary.value]


def test_records_are_lines_of_json_and_scalars(tmp_path):
    with RunLog(tmp_path / "run") as log:
        log.write(50, "train", {"loss": np.float32(0.5), "learning_rate": 0.25})
        log.write(100, "validation", {"accuracy": jnp.float32(0.75), "num_examples": 3})
        lines = (tmp_path / "run" / METRICS_FILE).read_text().splitlines()  # there before the log is closed
    assert lines == [
        '{"step": 50, "split": "train", "loss": 0.5, "learning_rate": 0.25}',
        '{"step": 100, "split": "validation", "accuracy": 0.75, "num_examples": 3}',
    ]
    (file,) = events(tmp_path / "run")
    assert file[0].file_version == "brain.Event:2"
    assert scalars(file) == [
        (50, "train/loss", 0.5),
        (50, "train/learning_rate", 0.25),
        (100, "validation/accuracy", 0.75),
        (100, "validation/num_examples", 3.0),
    ]
    assert [record["step"] for record in read_metrics(tmp_path / "run")] == [50, 100]


def test_numbers_that_are_not_finite_are_strict_json_and_come_back(tmp_path):
    values = {"loss": math.nan, "top": np.float32("inf"), "low": -math.inf, "large": 1e300}
    with RunLog(tmp_path) as log:
        log.write(1, "train", values)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    written = json.loads((tmp_path / METRICS_FILE).read_text(), parse_constant=refuse)
    assert (written["loss"], written["top"], written["low"]) == ("NaN", "Infinity", "-Infinity")
    (record,) = read_metrics(tmp_path)
    assert math.isnan(record["loss"])
    assert (record["top"], record["low"], record["large"]) == (math.inf, -math.inf, 1e300)
    loss, top, low, large = (value for _, _, value in scalars(events(tmp_path)[0]))
    assert math.isnan(loss) and (top, low, large) == (math.inf, -math.inf, math.inf)  # float32 in the file


def test_a_resume_drops_later_records_here_and_in_tensorboard(tmp_path):
    with RunLog(tmp_path) as log:
        for step in (10, 20, 30):
            log.write(step, "train", {"loss": float(step)})
        log.write(20, "validation", {"loss": 1.0})
    with RunLog(tmp_path, resume_step=20) as log:  # at once: both files are of the same second
        log.write(30, "train", {"loss": 0.5})
    kept = [(record["step"], record["split"], record["loss"]) for record in read_metrics(tmp_path)]
    assert kept == [(10, "train", 10.0), (20, "train", 20.0), (20, "validation", 1.0), (30, "train", 0.5)]
    first, second = events(tmp_path)
    assert len(scalars(first)) == 4
    assert (second[1].step, second[1].session_log.status) == (21, SessionLog.START)
    assert scalars(second) == [(30, "train/loss", 0.5)]


def test_a_resume_keeps_what_is_not_finite(tmp_path):
    with RunLog(tmp_path) as log:
        log.write(1, "train", {"loss": math.inf})
    before = (tmp_path / METRICS_FILE).read_bytes()
    RunLog(tmp_path, resume_step=1).close()
    assert (tmp_path / METRICS_FILE).read_bytes() == before


def test_a_new_run_starts_from_nothing(tmp_path):
    with RunLog(tmp_path) as log:
        log.write(0, "train", {"loss": 1.0})
    with RunLog(tmp_path) as log:
        log.write(0, "train", {"loss": 2.0})
    assert [record["loss"] for record in read_metrics(tmp_path)] == [2.0]
    assert events(tmp_path)[1][1].step == 0  # TensorBoard hides all that came before


def test_a_resume_without_an_old_log_begins_one(tmp_path):
    with RunLog(tmp_path, resume_step=7) as log:
        log.write(8, "train", {"loss": 1.0})
    assert [record["step"] for record in read_metrics(tmp_path)] == [8]


@pytest.mark.parametrize("torn", [b'{"step": 20, "split": "tr', b"{", b'{"step": 2', b"\x00\x00\x00", b"12", b'"ab'])
def test_a_torn_last_line_is_dropped(tmp_path, torn):
    whole = b'{"step": 10, "split": "train", "loss": 1.0}\n'
    (tmp_path / METRICS_FILE).write_bytes(whole + torn)
    assert [record["step"] for record in read_metrics(tmp_path)] == [10]
    RunLog(tmp_path, resume_step=30).close()
    assert (tmp_path / METRICS_FILE).read_bytes() == whole


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path):
    (tmp_path / METRICS_FILE).write_bytes(b'{"step": 10, "split": "train", "loss": 1.0}')
    with RunLog(tmp_path, resume_step=10) as log:
        log.write(20, "train", {"loss": 0.5})
    assert [record["step"] for record in read_metrics(tmp_path)] == [10, 20]


@pytest.mark.parametrize("damage", [b"nonsense", b'["step", "split"]', b'{"step": 1}', b"[" * 10**5])
def test_damage_before_the_last_line_is_named_and_nothing_lost(tmp_path, damage):
    content = damage + b'\n{"step": 10, "split": "train"}\n'
    (tmp_path / METRICS_FILE).write_bytes(content)
    for open_log in (lambda: read_metrics(tmp_path), lambda: RunLog(tmp_path, resume_step=10)):
        with pytest.raises(RunError, match="line 1: not a record"):
            open_log()
    assert (tmp_path / METRICS_FILE).read_bytes() == content


def test_a_new_run_does_not_mind_a_damaged_log(tmp_path):
    (tmp_path / METRICS_FILE).write_bytes(b"nonsense\nnonsense\n")
    RunLog(tmp_path).close()
    assert read_metrics(tmp_path) == []


def test_reading_where_nothing_was_trained(tmp_path):
    with pytest.raises(RunError, match="is not there"):
        read_metrics(tmp_path)


def test_an_unwritable_workdir_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match=r"cannot (write|read)") as error:
            RunLog(workdir)
        assert "\n" not in str(error.value)


def test_a_tensorboard_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "tensorboard").write_text("")
    with RunLog(tmp_path) as log, pytest.raises(RunError, match=r"cannot write .*tensorboard"):
        log.write(1, "train", {"loss": 1.0})


def test_what_a_write_leaves_over_is_written_next(tmp_path):
    class Slow(io.FileIO):
        def write(self, b) -> int:
            return super().write(bytes(b[:2]))

    with Slow(tmp_path / "file", "wb") as file:
        module._write(file, b"12345")
    assert (tmp_path / "file").read_bytes() == b"12345"


def test_no_thread_and_no_open_file_is_left(tmp_path):
    threads, files = threading.active_count(), len(list(Path("/dev/fd").iterdir()))
    with RunLog(tmp_path) as log:
        log.write(1, "train", {"loss": 1.0})
        assert threading.active_count() == threads
    log.close()
    assert len(list(Path("/dev/fd").iterdir())) == files


def run_python(code: str, workdir: Path, timeout: float = 60) -> subprocess.CompletedProcess:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, str(workdir)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=timeout, check=False)


def test_a_full_disk_ends_the_run_at_once_and_loses_nothing_saved(tmp_path):
    # A limit on the size of a file stands for the disk: a write is cut short, and the next one refused.
    code = """
import pathlib, resource, signal, sys
from cnnjax.errors import RunError
from cnnjax.report.log import RunLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    with RunLog(pathlib.Path(sys.argv[1])) as log:
        for step in range(1000):
            log.write(step, "train", {"loss": 1.0})
except RunError as error:
    print(error)
"""
    done = run_python(code, tmp_path)
    assert done.stderr == ""
    assert done.stdout.startswith("cannot write ") and done.stdout.count("\n") == 1
    steps = [record["step"] for record in read_metrics(tmp_path)]
    assert steps == list(range(len(steps))) and len(steps) > 20
    with RunLog(tmp_path, resume_step=steps[-1]) as log:
        log.write(steps[-1] + 1, "train", {"loss": 1.0})
    assert len(read_metrics(tmp_path)) == len(steps) + 1


def test_kill_keeps_what_was_written(tmp_path):
    code = """
import os, pathlib, signal, sys
from cnnjax.report.log import RunLog
log = RunLog(pathlib.Path(sys.argv[1]))
for step in range(5):
    log.write(step, "train", {"loss": 1.0})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python(code, tmp_path).returncode == -signal.SIGKILL
    assert len(read_metrics(tmp_path)) == 5
    assert len(scalars(events(tmp_path)[0])) == 5


def test_the_log_and_tables_load_nothing_heavy(tmp_path):
    code = "import sys, cnnjax.report.log, cnnjax.report.table; print(*sys.modules)"
    loaded = set(run_python(code, tmp_path).stdout.split())
    assert "cnnjax.report.log" in loaded
    assert not loaded & {"jax", "numpy", "matplotlib", "tensorboardX", "google.protobuf"}


def test_events_after_the_clock_was_set_back_still_come_last(tmp_path, monkeypatch):
    names = []
    for now, step in ((2_000 * 10**9 + 5, 1), (1_000 * 10**9, 2), (3_000 * 10**9, 3)):
        monkeypatch.setattr("cnnjax.report.log.time.time_ns", lambda now=now: now)
        with RunLog(tmp_path, resume_step=step - 1) as log:
            log.write(step, "train", {"loss": 1.0})
        names.append(sorted(path.name for path in (tmp_path / "tensorboard").iterdir()))
    assert names[1][:1] == names[0] and names[2][:2] == names[1]
