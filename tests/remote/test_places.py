# SPDX-License-Identifier: Apache-2.0
import json
import os
import signal
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax.commands import main
from cnnjax.config import load_config
from cnnjax.report.log import RunLog, read_metrics
from cnnjax.transfer.source import read_source

URL = "bucket://b/runs/one"
TRAIN = (
    "--config=experiments/logistic_digits.py",
    "--config.train.num_steps=8",
    "--config.train.checkpoint_every_steps=2",
    "--config.train.log_every_steps=2",
    "--config.augment.mixup=0.2",
)


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(argv))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def arrays(workdir: Path, step: int) -> dict[str, np.ndarray]:
    from orbax.checkpoint import v1 as ocp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that shardings are not given; one process reads all here
        tree = ocp.load(str(workdir / "checkpoints" / str(step)), checkpointable_name="state")
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def stage_of(tmp_path: Path, machine: str) -> Path:
    (folder,) = (tmp_path / f"cache-{machine}/remote").glob("*/one")
    return folder


def test_a_run_in_a_bucket_is_read_on_another_machine(bucket, machine, monkeypatch, capsys):
    monkeypatch.setattr("cnnjax.pictures.draw", lambda *args, **options: None)
    assert main([*TRAIN, f"--workdir={URL}"]) == 0
    machine("b")
    code, out, _ = run(capsys, "evaluate", f"--workdir={URL}", "--json")
    results = json.loads(bucket.objects["b/runs/one/results.json"][0])
    assert code == 0 and json.loads(out)["accuracy"] == results["last"]["test"]["accuracy"]


@pytest.mark.slow
@pytest.mark.optimized
def test_a_run_stopped_here_goes_on_elsewhere_bit_for_bit_and_is_read_from_a_third(
    bucket, machine, tmp_path, monkeypatch, capsys, caplog
):
    monkeypatch.setattr("cnnjax.pictures.draw", lambda *args, **options: None)  # takes longer than all the rest
    whole = tmp_path / "whole"
    assert main([*TRAIN, f"--workdir={whole}"]) == 0
    write = RunLog.write

    def stopping(log, step, split, metrics):
        write(log, step, split, metrics)
        if step == 4 and split == "train":
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "write", stopping)
        assert main([*TRAIN, f"--workdir={URL}"]) == 128 + signal.SIGTERM
    machine("b")
    caplog.clear()
    assert main([*TRAIN, f"--workdir={URL}"]) == 0
    assert "going on from step 4 of 8" in caplog.text and f"all of it is in {URL}" in caplog.text
    expected, found = arrays(whole, 8), arrays(stage_of(tmp_path, "b"), 8)
    assert expected.keys() == found.keys() and len(found) > 4
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)
    numbers = [
        [{k: v for k, v in record.items() if "second" not in k} for record in read_metrics(folder)]
        for folder in (whole, stage_of(tmp_path, "b"))
    ]
    assert numbers[0] == numbers[1]

    machine("c")
    code, out, _ = run(capsys, "evaluate", f"--workdir={URL}", "--json", "--calibration")
    assert code == 0
    assert json.loads(out)["accuracy"] == json.loads((whole / "results.json").read_text())["last"]["test"]["accuracy"]
    assert f"{URL.removeprefix('bucket://')}/evaluation/reliability.png" in bucket.objects
    machine("d")
    code, out, _ = run(capsys, "runs", "bucket://b/runs", "--json")
    (told,) = json.loads(out)
    assert code == 0 and told["name"] == "one" and told["status"] == "finished"
    assert not list((tmp_path / "cache-d/remote").glob("*/runs/one/checkpoints"))

    machine("e")
    source = read_source(load_config(TRAIN[0].removeprefix("--config="), [f"--config.init_from={URL}@best"]))
    assert source.run and source.origin["run"] == URL and source.origin["step"] in (2, 4, 6, 8)


def test_two_runs_on_one_workdir(bucket, machine, capsys):
    from cnnjax.remote.places import training

    with training(URL):
        code, _, err = run(capsys, *TRAIN, f"--workdir={URL}")
        assert code == 1 and err.splitlines()[-1].startswith(f"error: {URL} is in use by a process on this machine:")
        machine("b")
        code, _, err = run(capsys, *TRAIN, f"--workdir={URL}")
        assert code == 1 and f"error: {URL} is in use by process {os.getpid()} on " in err.splitlines()[-1]


def test_a_store_that_cannot_be_written_is_told_before_training(bucket, machine, capsys):
    def deny(request: str, path: str) -> None:
        if request == "write":
            raise PermissionError("read only")

    bucket.before = deny
    code, out, err = run(capsys, *TRAIN, f"--workdir={URL}")
    assert code == 1 and err.splitlines() == [err.strip()] and "permission denied by bucket://b" in err and not out


def test_what_is_not_sent_at_the_end_fails_the_command(bucket, machine, monkeypatch, capsys):
    from cnnjax.errors import RunError
    from cnnjax.remote.places import training

    monkeypatch.setattr("cnnjax.remote.sending.LAST_WAIT", 0.2)

    def deny(request: str, path: str) -> None:
        if "/lease" not in path:
            raise PermissionError("revoked")

    with pytest.raises(RunError, match=r"only in .*: a\.txt; the same command sends them"), training(URL) as folder:
        bucket.before = deny
        (folder / "a.txt").write_text("a")
    bucket.before = lambda request, path: None
    with training(URL) as folder:
        assert (folder / "a.txt").read_text() == "a"
    assert "b/runs/one/a.txt" in bucket.objects


def test_the_first_error_is_the_one_that_ends_the_command(bucket, machine, monkeypatch, caplog):
    from cnnjax.errors import UsageError
    from cnnjax.remote.places import training

    def deny(request: str, path: str) -> None:
        raise PermissionError("revoked")

    with pytest.raises(UsageError, match="wrong"), training(URL) as folder:
        bucket.before = deny  # before there is anything to send, lest it be sent by now
        (folder / "a.txt").write_text("a")
        raise UsageError("wrong")
    assert "only in" in caplog.text


def test_readers_beside_a_running_training_take_its_files(bucket, machine, capsys, monkeypatch):
    from cnnjax.remote.places import reading, training

    with training(URL) as folder:
        (folder / "new.txt").write_text("not sent yet")
        with reading(URL, None) as same:
            assert same == folder and (same / "new.txt").exists()


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (("evaluate", "--workdir=bucket://b/none"), 1, "there is no run in bucket://b/none; train one first"),
        (("export", "--workdir=bucket://b/none", "--out=gs://b/x"), 2, "--out=gs://b/x: give a folder of this machine"),
        ((*TRAIN, "--workdir=nothing://b/run"), 2, "nothing://b/run cannot be opened"),
        ((*TRAIN, "--workdir=bucket://"), 2, "bucket:// names no bucket"),
    ],
)
def test_what_is_wrong_is_one_line(bucket, machine, capsys, argv, code, told):
    found, out, err = run(capsys, *argv)
    assert found == code and told in err and len(err.splitlines()) == 1 and not out
