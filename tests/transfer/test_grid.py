# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax.commands import main
from cnnjax.config import load_config
from cnnjax.experiment import build_model
from cnnjax.transfer.arms import LEAST_STEPS, cell_config, last_layers
from cnnjax.weights.importing import write_run
from cnnjax.workdir import DatasetInfo

SMALL = ["--config.model.name=simple_cnn", "--config.model.widths=(3,)", "--config.model.dense=5"]


def test_the_last_part_of_networks_by_their_layers():
    assert last_layers(["features/kernel", "output/bias", "stage1_conv1/kernel", "stage2_conv1/kernel"]) == (
        "features",
        "output",
        "stage2_conv1",
    )
    assert last_layers(["output/kernel", "stage1/block1/conv1/kernel", "stage2/block1/conv1/kernel", "stem_bn/scale",
                        "stem_conv/kernel"]) == ("output", "stage2")  # fmt: skip
    assert last_layers(["conv1_1/kernel", "conv5_1/kernel", "conv5_2/kernel", "fc6/kernel", "output/kernel"]) == (
        "conv5_1",
        "conv5_2",
        "fc6",
        "output",
    )
    assert last_layers(["hidden1/kernel", "hidden2/kernel", "output/kernel"]) == ("hidden2", "output")


def test_the_config_of_each_arm():
    config = load_config(
        "experiments/default.py",
        ["--config.init_from=runs/a", "--config.data.batch_size=32", "--config.train.num_epochs=8"],
    )
    cell = cell_config(config, "part", 10, 2, 1000, ("stage3", "output"))
    assert (cell.seed, cell.data.split_seed, cell.data.train_examples, cell.data.batch_size) == (2, 2, 10, 10)
    assert (cell.train.num_steps, cell.train.num_epochs) == (LEAST_STEPS, None)
    assert cell.freeze == ("*", "!stage3", "!output") and cell.optimizer.factors == ("*=0.2", "output=1")
    cell = cell_config(config, "all", 0, 0, 1000, ("output",))
    assert cell.train.num_steps == 250 and cell.freeze == () and cell.init_from == "runs/a"
    assert cell_config(config, "scratch", 0, 0, 1000, ("output",)).init_from == ""
    assert cell_config(config, "part", 0, 0, 1000, ("output",)).optimizer.factors == ()


def test_the_command_runs_every_cell_once_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    config = load_config("experiments/default.py", SMALL)
    params, state = jax.jit(build_model(config, 3).init)(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    write_run(tmp_path / "source", config, DatasetInfo("made", ("a", "b", "c"), (8, 8, 1), {}), params, state, {})
    monkeypatch.setattr("cnnjax.transfer.arms.LEAST_STEPS", 2)
    command = [
        "transfer", "--config=experiments/default.py", *SMALL, f"--init_from={tmp_path / 'source'}",
        f"--workdir={tmp_path / 'grid'}", "--config.train.num_steps=2", "--config.data.source=digits",
        "--config.data.batch_size=10", "--sizes=10,20", "--seeds=2",
    ]  # fmt: skip
    assert main([*command, "--arms=features"]) == 0
    table = capsys.readouterr().out
    assert "training pictures" in table and "±" in table and (tmp_path / "grid/transfer.png").exists()
    cells = sorted((tmp_path / "grid/cells").iterdir())
    assert len(cells) == 4
    times = [cell.stat().st_mtime_ns for cell in cells]
    more = [*command, "--sizes=10,20", "--seeds=1", "--arms=features,all", "--json"]
    assert main(more) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["arm"], row["train_examples"], len(row["accuracy"])) for row in rows] == [
        ("features", 10, 1), ("all", 10, 1), ("features", 20, 1), ("all", 20, 1),
    ]  # fmt: skip
    assert [cell.stat().st_mtime_ns for cell in cells] == times
    trained = sorted({*(tmp_path / "grid/cells").iterdir()} - {*cells})
    first = json.loads(trained[0].read_text())
    assert len(trained) == 2 and first["train_examples"] == 10 and first["steps"] == 2
    with monkeypatch.context() as patch:
        patch.setattr("cnnjax.transfer.grid._Grid.run", lambda *_: pytest.fail("run again"))
        assert main(more) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == rows
    for wrong, message in (
        ([*command, "--config.optimizer.learning_rate=0.5"], "holds a comparison with another config"),
        ([*command, "--arms=al"], "unknown arm 'al'; did you mean 'all'"),
        ([*command, "--sizes=5"], "config.data.train_examples is 5, but there are 10 classes"),
        ([word for word in command if "init_from" not in word], "no trained network to start from"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
