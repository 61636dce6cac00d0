# SPDX-License-Identifier: Apache-2.0
import csv
import json

import pytest

from cnnjax.ensemble import training
from cnnjax.errors import UsageError
from cnnjax.report.log import read_metrics
from cnnjax.sweep import sweep_run
from cnnjax.sweep.grid import make_points
from cnnjax.sweep.results import collect, format_csv, format_results
from cnnjax.sweep.sweep_run import train_sweep
from cnnjax.training_run import train_run
from cnnjax.workdir import members

SMALL = (
    "data.source=synthetic",
    "data.synthetic.num_examples=96",
    "data.synthetic.num_classes=3",
    "data.synthetic.image_shape=(8,8,1)",
    "data.batch_size=16",
    "data.eval_batch_size=16",
    "train.num_steps=4",
    "train.eval_every_steps=2",
    "train.checkpoint_every_steps=2",
    "train.log_every_steps=2",
)


def sweep(workdir, *overrides: str, **options):
    return train_sweep("experiments/default.py", flags(*overrides), str(workdir), **options)


def flags(*overrides: str) -> list[str]:
    return [f"--config.{override}" for override in (*SMALL, *overrides)]


def test_a_sweep_trains_every_point_and_tells_the_best(tmp_path, monkeypatch):
    together = []
    build = training.build_together
    monkeypatch.setattr(
        training,
        "build_together",
        lambda parts, configs, way: together.append(len(configs)) or build(parts, configs, way),
    )
    grid = ("model.hidden=(8,),(4,)", "optimizer.learning_rate=0.05,3e38", "seed=0,1")
    results = sweep(tmp_path / "all", *grid)
    assert together == [4, 4]  # one program for each width, of rates and seeds
    points = results["points"]
    assert [p["status"] for p in points] == ["finished", "finished", "diverged", "diverged"] * 2
    assert results == json.loads((tmp_path / "all/results.json").read_text())
    assert members(tmp_path / "all") == [tmp_path / "all" / p["name"] for p in points]
    settings = results["settings"]
    assert [s["runs"] for s in settings] == [2, 2] and settings[0]["mean"] >= settings[1]["mean"]
    rows = list(csv.DictReader((tmp_path / "all/results.csv").read_text().splitlines()))
    assert len(rows) == 8 and rows[2]["test_loss"] == "" and float(rows[0]["test_loss"]) > 0
    assert (tmp_path / "all/sweep.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "all/report.html").stat().st_size > 10_000
    text = format_results(results)
    assert "diverged" in text and f"best: config.model.hidden={tuple(settings[0]['values']['model.hidden'])}" in text
    train_run(make_points("experiments/default.py", flags(*grid))[0].config, str(tmp_path / "alone"), draws=False)
    one, alone = (read_metrics(path)[-1]["loss"] for path in (tmp_path / "all" / points[0]["name"], tmp_path / "alone"))
    assert one == pytest.approx(alone, rel=1e-4)


def test_a_sweep_goes_on_and_grows_but_becomes_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_run, "draw", lambda *_: None)
    first = sweep(tmp_path, "seed=0,1", "optimizer.learning_rate=0.05")
    built = []
    build = training.build_together
    monkeypatch.setattr(
        training,
        "build_together",
        lambda parts, configs, way: built.append([c.seed for c in configs]) or build(parts, configs, way),
    )
    assert sweep(tmp_path, "seed=0,1", "optimizer.learning_rate=0.05") == first and not built
    grown = sweep(tmp_path, "seed=0,1,5,3", "optimizer.learning_rate=0.05")
    assert built == [[5, 3]] and grown["points"][:2] == first["points"]
    with pytest.raises(UsageError, match="holds another sweep: 2 of its points"):
        sweep(tmp_path, "seed=0,1", "optimizer.learning_rate=0.05")
    with pytest.raises(UsageError, match=r"1 keys differ.*--accept_changes"):
        sweep(tmp_path, "seed=0,1,5,3", "optimizer.learning_rate=0.06")
    with pytest.raises(UsageError, match="holds a sweep already"):
        train_run(make_points("experiments/default.py", flags("seed=0,1"))[0].config, str(tmp_path))
    with pytest.raises(UsageError, match="unknown model"):
        sweep(tmp_path / "bad", "seed=0,1", "model.name=lenet6")
    assert not (tmp_path / "bad").exists()


def test_results_before_the_first_end_and_without_validation(tmp_path):
    grid = make_points("experiments/default.py", flags("seed=0,1"))
    open_ends = collect(grid, tmp_path)
    assert open_ends["judged_by"] is None and format_results(open_ends).splitlines()[-1].split() == ["1", "open"]
    assert format_csv(open_ends).splitlines()[1].startswith("seed=0,0,open") or '"' in format_csv(open_ends)
    for i, point in enumerate(grid):
        (tmp_path / point.name).mkdir()
        values = {"loss": 1.0 - i / 2, "mse": 0.5}
        (tmp_path / point.name / "results.json").write_text(json.dumps({"step": 4, "last": {"test": values}}))
    done = collect(grid, tmp_path)
    assert done["judged_by"] == {"metric": "loss", "split": "test", "best": "lowest"}
    assert done["settings"] == [
        {"values": {}, "runs": 2, "mean": 0.75, "std": pytest.approx(0.35355339), "test_mean": 0.75}
    ]
    assert "all seeds: test loss 0.7500 ± 0.3536 over 2 seeds" in format_results(done)
