# SPDX-License-Identifier: Apache-2.0
"""What a folder tells of its run: result, status, and the damage there may be."""

import os
import shlex
import sys
from pathlib import Path

import pytest

from cnnjax.errors import CnnjaxError, RunError
from cnnjax.page.record import default_config, differing, find_runs, is_running, read_run


def test_a_finished_run(write_run):
    run = read_run(write_run("a", accuracy=0.75))
    assert (run.name, run.status, run.step) == ("a", "finished", 100)
    assert run.result == ("accuracy", 0.75, "test", 100)
    assert run.info.label_names[0] == "cat & dog"


def test_before_the_end_the_last_evaluation_is_the_result(write_run):
    run = read_run(write_run("a", finished=False, accuracy=0.5, num_records=45))
    assert run.result == ("accuracy", 0.5, "validation", 40)
    assert run.status == "stopped"  # this process did not run that command


def test_a_run_that_went_on_after_its_end_is_not_finished(write_run):
    path = write_run("a")
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 120, "split": "train", "loss": 1.0}\n')
    run = read_run(path)
    assert run.status == "stopped" and run.results is None


def test_running_is_told_by_the_process_and_its_command(write_run):
    path = write_run("a", finished=False)
    command = shlex.join(sys.orig_argv)
    assert is_running(path, {"command": command})
    assert not is_running(path, {"command": "another"}) or not Path("/proc").is_dir()
    event = next((path / "tensorboard").iterdir())
    event.rename(event.with_name(event.name.rpartition(".")[0] + ".999999999"))
    assert not is_running(path, {"command": command})


def test_another_machine_is_not_asked(write_run):
    path = write_run("a", finished=False)
    event = next((path / "tensorboard").iterdir())
    event.rename(event.with_name(f"events.out.tfevents.1.2.elsewhere.example.{os.getpid()}"))
    assert not is_running(path, {"command": shlex.join(sys.orig_argv)})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("results.json", "[]"),
        ("results.json", "{}"),
        ("results.json", '{"step": 100, "last": {}}'),
        ("results.json", '{"step": 100, "last": {"test": {}}}'),
        ("metrics.jsonl", "rubbish\n\n{}\n"),
        ("dataset.json", "{}"),
        ("environment.json", "rubbish"),
    ],
)
def test_a_damaged_file_is_named(write_run, name, content):
    path = write_run("a")
    (path / name).write_text(content)
    with pytest.raises(CnnjaxError, match=name):
        read_run(path)


def test_runs_are_found_at_any_depth_and_remains_too(write_run, tmp_path):
    write_run("x/deep/a")
    write_run("b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/metrics.jsonl").write_text("")
    assert [str(path.relative_to(tmp_path)) for path in find_runs(tmp_path)] == ["b", "c", "x/deep/a"]
    with pytest.raises(RunError, match="no folder"):
        find_runs(tmp_path / "none")


def test_differing_keys(tiny):
    configs = [tiny(), tiny("seed=1"), tiny("model.name=lenet5")]
    assert set(differing(configs)) == {"seed", "model.name", "model.hidden"}
    assert differing([]) == []


def test_the_default_is_the_schema_of_experiments():
    default = default_config()
    assert default is not None and default.data.source == "digits"
