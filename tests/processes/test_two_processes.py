# SPDX-License-Identifier: Apache-2.0
"""`run.py train` in two processes on the loopback interface: what it computes, and how it ends."""

import json
import multiprocessing
import signal

import pytest

from cnnjax.training_run import train_run
from tests.faults.runs import assert_same
from tests.processes import child
from tests.processes.pair import (
    NEVER,
    SMALL,
    TOLERANCE,
    alone,
    both,
    difference,
    finished,
    flags,
    two,
    unused,
    wait_for_checkpoint,
)

_server = multiprocessing.get_context("forkserver")  # that of tests.faults.runs, which has imported jax
LONG = (
    "train.num_steps=2000",  # the notice of a signal takes a second or two to reach all
    "train.eval_every_steps=300",
    "train.checkpoint_every_steps=100",
    "train.log_every_steps=100",
    "train.steps_per_dispatch=5",
)


@pytest.mark.slow
def test_two_processes_train_as_one_with_two_devices(tiny, tmp_path):
    short = (*SMALL, "train.num_steps=2", "train.eval_every_steps=1")
    train_run(tiny("data.source=digits", *short), str(tmp_path / "one"), draws=False)  # a test has two devices
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    started = [
        _server.Process(target=child.launch, args=(arguments, str(log)), daemon=True)
        for arguments, log in zip(both(tmp_path / "two", *short), logs, strict=True)
    ]
    try:
        for process in started:
            process.start()
        for process in started:
            process.join(NEVER)
        assert [process.exitcode for process in started] == [0, 0], [log.read_text() for log in logs]
    finally:
        for process in started:
            process.kill()
    assert "2 x cpu" in logs[0].read_text() and "validation" not in logs[1].read_text()
    assert not unused(tmp_path / "two").exists()
    assert difference(tmp_path / "one", tmp_path / "two") < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("smallest", [0, 1])
def test_two_processes_train_as_one_with_two_devices_or_one(tmp_path, smallest):
    """Whole parameters, and every array divided over the processes that can be."""
    together = finished(tmp_path / "two", f"train.shard_params={smallest}", draws=True)
    assert (together / "report.html").is_file()
    for devices in (1, 2):
        alone(tmp_path, *flags(tmp_path / f"{devices}"), devices=devices)
        found = difference(tmp_path / f"{devices}", together)
        print(f"shard_params {smallest}, {devices} device(s) and two processes: {found:.1e}")
        assert found < TOLERANCE
    told = alone(tmp_path, "evaluate", f"--workdir={together}", "--json")
    [found] = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    last = json.loads((together / "results.json").read_text())["last"]["test"]
    assert found["num_examples"] == 359 and found["accuracy"] == last["accuracy"]
    assert found["loss"] == pytest.approx(last["loss"], rel=TOLERANCE)


@pytest.mark.slow
def test_what_ends_one_of_two_ends_both_and_they_go_on_to_the_same_bits(tmp_path):
    whole, broken = finished(tmp_path / "whole", *LONG), tmp_path / "broken"
    with two(broken, *LONG) as (first, second):
        wait_for_checkpoint(broken, 100, [first, second])
        second.popen.kill()
        assert first.code(60) == 1
        assert "error: process 1 (" in first.told() and ") is gone: its connection closed" in first.told()
        assert second.code() == -signal.SIGKILL
    with two(broken, *LONG) as processes:
        wait_for_checkpoint(broken, 300, processes)
        processes[1].popen.terminate()
        codes = [process.code(60) for process in processes]
        assert codes == [128 + signal.SIGTERM] * 2, [process.told() for process in processes]
        told = processes[0].told()
        assert "going on from step " in told and "stopped by SIGTERM at step " in told
        step = int(told.partition("stopped by SIGTERM at step ")[2].split(",")[0])
        assert 300 <= step < 2000 and (broken / "checkpoints" / str(step)).exists()
    assert_same(whole, finished(broken, *LONG))
