# SPDX-License-Identifier: Apache-2.0
"""Where the time went, from event files with clocks set by hand."""

from pathlib import Path

import pytest

from cnnjax.page.times import Times, measure, read_sessions
from cnnjax.report import log
from cnnjax.report.log import RunLog, read_metrics


class Clock:
    now = 1000.0

    def time(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return int(self.now * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(log, "time", clock)
    return clock


def write(workdir: Path, clock: Clock, records, resume_step=None) -> None:
    with RunLog(workdir, resume_step=resume_step) as run_log:
        for clock.now, step, split in records:
            run_log.write(step, split, {"loss": 1.0} | ({"images_per_second": 10.0} if split == "train" else {}))


def test_the_split_of_one_session(tmp_path: Path, clock: Clock):
    # Started at 970; 10 steps of 8 images at 10 a second are 8 s of training before each record.
    write(tmp_path, clock, [(1000, 10, "train"), (1012, 20, "train"), (1015, 20, "validation")])
    found = measure(tmp_path, read_metrics(tmp_path), 8, "1970-01-01T00:16:10+00:00")
    assert found == Times(starting=22.0, training=16.0, other=7.0)
    assert found is not None and found.total == 45.0


def test_a_pause_between_sessions_is_left_out(tmp_path: Path, clock: Clock):
    write(tmp_path, clock, [(1000, 10, "train"), (1010, 20, "train")])
    write(tmp_path, clock, [(5008, 30, "train"), (5018, 40, "train")], resume_step=20)
    assert [len(session) for session in read_sessions(tmp_path)] == [2, 2]
    found = measure(tmp_path, read_metrics(tmp_path), 8, "1970-01-01T01:23:15+00:00")  # 4995
    assert found is not None
    # The start of the first session is not known: its first record is. Then 10 s; and 13 s + 10 s of the second.
    assert found.total == pytest.approx(33.0)
    assert found.training == pytest.approx(8 + 8 + 8)


def test_without_a_record_there_is_no_time(tmp_path: Path):
    assert measure(tmp_path, [], 8, None) is None


def test_a_file_cut_short_is_read_up_to_there(tmp_path: Path, clock: Clock):
    write(tmp_path, clock, [(1000, 10, "train"), (1010, 20, "train")])
    path = next((tmp_path / "tensorboard").iterdir())
    path.write_bytes(path.read_bytes()[:-30])
    assert read_sessions(tmp_path) == [[(1000.0, 10)]]
