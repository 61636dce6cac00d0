# SPDX-License-Identifier: Apache-2.0
"""`run.py runs`: the table of all runs, sorted, as JSON, and with broken ones among them."""

import json
from pathlib import Path

import pytest

from cnnjax.commands import main
from cnnjax.report.environment import write_json
from cnnjax.report.log import RunLog


@pytest.fixture
def runs(tmp_path: Path, tiny) -> Path:
    """Three runs of rising accuracy, the last of them without an end, and the remains of a fourth."""
    for i, name in enumerate(("c", "b", "deep/a")):
        path = tmp_path / name
        path.mkdir(parents=True)
        config = tiny(f"seed={i}", "optimizer.learning_rate=0.2" if i == 2 else "optimizer.learning_rate=0.1")
        info = {"name": "set", "label_names": ["x", "y"], "image_shape": [8, 8, 1], "num_examples": {"test": 10}}
        write_json(path / "dataset.json", info)
        write_json(path / "environment.json", {"start_time": f"2026-01-0{i + 1}T00:00:00+00:00", "command": "none"})
        write_json(path / "config.json", json.loads(config.to_json()))
        with RunLog(path) as log:
            log.write(5, "validation", {"loss": 0.5, "accuracy": 0.5 + i / 10})
        if i < 2:
            write_json(path / "results.json", {"step": 5, "last": {"test": {"loss": 0.5, "accuracy": 0.5 + i / 10}}})
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/config.json").write_text("{")
    return tmp_path


def listed(runs: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> list[dict]:
    assert main(["runs", str(runs), "--json", *flags]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_table(runs: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["runs", str(runs)]) == 0
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "status", "result", "of", "step", "time", "config"]
    assert lines[0].split()[:5] == ["b", "finished", "60.00%", "test", "accuracy"]
    assert lines[0].endswith("seed=1") and lines[1].endswith("seed=0")  # the usual learning rate is not said
    assert lines[2].split()[:5] == ["deep/a", "stopped", "70.00%", "validation", "accuracy"]
    assert "learning_rate=0.2" in lines[2]
    assert lines[3].split()[:2] == ["damaged", "broken"]
    assert lines[-1].startswith("damaged: cannot read")


def test_as_json(runs: Path, capsys: pytest.CaptureFixture[str]):
    rows = listed(runs, capsys)
    assert [row["name"] for row in rows] == ["b", "c", "deep/a", "damaged"]
    assert rows[0]["result"] == {"metric": "accuracy", "value": 0.6, "split": "test", "step": 5}
    assert rows[0]["config"] == {"seed": 1, "optimizer.learning_rate": 0.1}
    assert rows[3]["status"] == "broken" and "config.json" in rows[3]["error"]


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("result", ["deep/a", "b", "c"]),
        ("start_time", ["c", "b", "deep/a"]),
        ("status", ["deep/a", "b", "c"]),
        ("seed", ["c", "b", "deep/a"]),
        ("config.optimizer.learning_rate", ["b", "c", "deep/a"]),
    ],
)
def test_sorting(runs: Path, capsys: pytest.CaptureFixture[str], key, names):
    assert [row["name"] for row in listed(runs, capsys, f"--sort={key}")][:3] == names


def test_an_unknown_column(runs: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["runs", str(runs), "--sort=reslt"]) == 2
    assert "did you mean 'result'" in capsys.readouterr().err


def test_folders_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["runs", str(tmp_path)]) == 1
    assert main(["runs", str(tmp_path / "none")]) == 1
    assert main(["runs"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 3 and "no folder given" in err[2]
