# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnjax import processes
from cnnjax.commands import main, names

ROOT = Path(__file__).parents[2]


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    capsys.readouterr()  # what a fixture printed
    code = main(list(argv))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    code = main(
        ["--config=experiments/logistic_digits.py", f"--workdir={workdir}", "--config.train.num_steps=60",
         "--config.data.image_size=(16,16)", "--config.data.resize=stretch"]
    )  # fmt: skip
    assert code == 0
    return workdir


def test_help_is_one_screen_and_every_command_has_its_own(capsys):
    for argv in ([], ["--help"], ["help"]):
        code, out, _ = run(capsys, *argv)
        assert code == 0 and len(out.splitlines()) < 40 and all(len(line) < 120 for line in out.splitlines())
        assert all(f"  {name} " in out for name in names())
    for name in names():
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        out = capsys.readouterr().out
        assert stop.value.code == 0 and f"run.py {name}" in out and "--workdir" in out


def test_help_does_not_import_jax_or_numpy():
    code = (
        "import sys; from cnnjax.commands import main; main(['--help']); "
        "assert not {'jax', 'numpy', 'matplotlib', 'ml_collections'} & set(sys.modules)"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
    assert time.perf_counter() - start < 30  # no measurement: only that nothing hangs


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["evalaute"], 2, "did you mean 'evaluate'"),
        (["train", "--worldir=x"], 2, "unknown flag --worldir=x; did you mean --workdir?"),
        (["train", "stray"], 2, "unrecognized arguments: stray"),
        (["--workdir=x"], 2, "no config given; add --config="),
        (["--config=experiments/lenet5_digits.py"], 2, "no workdir given; add --workdir="),
        (["--config=experiments/lenet5_digit.py", "--workdir=x"], 2, "did you mean experiments/lenet5_digits.py"),
        (["--config=experiments/lenet5_digits.py", "--workdir=x", "--config.sead=1"], 2, "did you mean 'config.seed'"),
        (["--config=experiments/lenet5_digits.py", "--workdir=x", "--config.seed=a"], 2, "not of type int"),
        (["evaluate"], 2, "no workdir given"),
        (["evaluate", "--workdir=/nowhere"], 1, "/nowhere holds no run"),
        (["evaluate", "--workdir=x", "--split=tset"], 2, "invalid choice: 'tset'"),
        (["evaluate", "--workdir=x", "--num_processes=2"], 2, "evaluate is done by one process"),
        (["evaluate", "--workdir=/nowhere", "--num_processes=1"], 1, "/nowhere holds no run"),
        (["predict", "--workdir=x"], 2, "required: IMAGE"),
        (["predict", "--workdir=x", "/nowhere.png"], 1, "no picture at /nowhere.png"),
    ],
)
def test_wrong_usage_is_one_line_and_an_exit_code(capsys, argv, code, message):
    got, out, err = run(capsys, *argv)
    assert got == code and message in err and out == ""
    assert err.startswith("error: ") and len(err.splitlines()) == 1
    assert not Path("x").exists()


def test_debug_shows_the_traceback(capsys):
    _, _, err = run(capsys, "evaluate", "--workdir=/nowhere", "--debug")
    assert "Traceback" in err and err.splitlines()[-1].startswith("error: /nowhere holds no run")


def test_an_unforeseen_error_is_one_line_too(capsys, monkeypatch):
    from cnnjax import config

    def broken(*_):
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr(config, "load_config", broken)
    code, _, err = run(capsys, "--config=x", "--workdir=y")
    assert code == 1 and err == "error: ZeroDivisionError: first second (--debug shows where)\n"


def test_evaluate_as_json_and_as_text(capsys, trained: Path):
    code, out, _ = run(capsys, "evaluate", f"--workdir={trained}", "--json")
    result = json.loads(out)
    assert code == 0 and len(out.splitlines()) == 1
    assert list(result) == [
        "workdir", "step", "name", "split", "protocol", "num_examples", "loss", "accuracy", "top5_accuracy", "interval",
        "per_class", "per_class_interval",
    ]  # fmt: skip
    assert result["num_examples"] == 359 and result["step"] == 60 and result["split"] == "test"
    assert 0.7 < result["accuracy"] <= result["top5_accuracy"] <= 1 and set(result["per_class"]) == set("0123456789")
    stored = json.loads((trained / "results.json").read_text())["last"]["test"]
    assert stored["accuracy"] == result["accuracy"]
    low, high = result["interval"]["accuracy"]
    assert low < result["accuracy"] < high
    _, out, _ = run(capsys, "evaluate", f"--workdir={trained}", "--split=validation", "--checkpoint=best")
    assert "validation images of digits" in out and "95% interval" in out


def test_predict_takes_files_folders_and_globs_of_any_kind(capsys, trained: Path, tmp_path: Path):
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    array = np.round(digits.images * 255 / 16).astype(np.uint8)
    (tmp_path / "more").mkdir()
    Image.fromarray(array[0]).save(tmp_path / "gray.png")
    Image.fromarray(array[0]).convert("RGBA").resize((90, 60)).save(tmp_path / "rgba.png")
    Image.fromarray(array[0]).convert("P").save(tmp_path / "more" / "palette.gif")
    Image.fromarray(array[0]).convert("RGB").resize((64, 64)).save(tmp_path / "more" / "color.jpg")
    code, out, _ = run(capsys, "predict", f"--workdir={trained}", "--json", "--top=3", str(tmp_path))
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [Path(row["file"]).name for row in rows] == [
        "gray.png",
        "color.jpg",
        "palette.gif",
        "rgba.png",
    ]
    assert all(row["top"][0]["label"] == str(digits.target[0]) for row in rows)
    assert all(len(row["top"]) == 3 and 0 <= row["top"][0]["probability"] <= 1 for row in rows)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    code, out, err = run(capsys, "predict", f"--workdir={trained}", f"{tmp_path}/*.png")
    assert code == 1 and len(out.splitlines()) == 2 and "cannot read" in err and "bad.png" in err


def test_dry_run_tells_and_writes_nothing(capsys, tmp_path: Path):
    code, out, _ = run(
        capsys, "--config=experiments/logistic_digits.py", f"--workdir={tmp_path}/run", "--dry_run",
        "--config.data.batch_size=64",
    )  # fmt: skip
    assert code == 0 and not (tmp_path / "run").exists()
    assert '"batch_size": 64' in out and "650" in out and "steps per epoch" in out and "memory" in out


def test_of_several_processes_one_tells_of_a_dry_run(capsys, monkeypatch):
    monkeypatch.setattr(processes, "is_first", lambda: False)
    assert run(capsys, "--config=experiments/logistic_digits.py", "--dry_run") == (0, "", "")


def test_evaluation_is_done_once_under_a_scheduler(capsys, monkeypatch):
    for name, value in {"COORDINATOR_ADDRESS": "host:1", "NUM_PROCESSES": "2", "PROCESS_ID": "0"}.items():
        monkeypatch.setenv(f"JAX_{name}", value)
    code, _, err = run(capsys, "evaluate", "--workdir=/nowhere")
    assert code == 2 and "(told by JAX_* in the environment: 2 processes); start it once" in err
    assert "holds no run" in run(capsys, "evaluate", "--workdir=/nowhere", "--num_processes=1")[2]


def test_experiments_lists_each_with_its_result(capsys):
    _, out, _ = run(capsys, "experiments", "--json")
    listed = json.loads(out)
    assert {Path(e["config"]).stem for e in listed} >= {"lenet5_digits", "mlp_mnist", "lenet5_mnist", "folder"}
    assert all(e["title"] and e["result"] for e in listed)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_unwritable_workdir(capsys, tmp_path: Path):
    tmp_path.chmod(0o500)
    code, _, err = run(capsys, "--config=experiments/logistic_digits.py", f"--workdir={tmp_path}/run")
    assert code == 1 and "cannot make the workdir" in err


def test_training_never_imports_tensorflow(tmp_path: Path):
    code = (
        "import sys; from cnnjax.commands import main\n"
        "assert main(['--config=experiments/logistic_digits.py', sys.argv[1], '--config.train.num_steps=2',"
        " '--config.data.source=synthetic']) == 0\n"
        "import tensorflow_datasets\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, f"--workdir={tmp_path / 'run'}"]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=300)
