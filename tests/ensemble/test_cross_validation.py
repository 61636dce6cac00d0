# SPDX-License-Identifier: Apache-2.0
"""All folds of a cross-validation, each an ordinary run."""

import json

import numpy as np
import pytest

from cnnjax.commands import main
from cnnjax.ensemble.cross_validation import train_folds
from cnnjax.errors import UsageError
from cnnjax.training_run import train_run

FOLDS = ("data.folds=3", "data.validation_fraction=0", "train.num_steps=2")


def test_each_fold_is_a_run_and_the_table_holds_their_mean(tiny, tmp_path):
    text = train_folds(tiny(*FOLDS), str(tmp_path / "all"))
    results = json.loads((tmp_path / "all" / "results.json").read_text())
    accuracy = [member["last"]["test"]["accuracy"] for member in results["members"]]
    assert len(accuracy) == 3 and results["mean"]["test"]["accuracy"] == pytest.approx(np.mean(accuracy))
    assert results["std"]["test"]["accuracy"] == pytest.approx(np.std(accuracy, ddof=1))
    assert "fold2" in text and "mean of 3" in text
    alone = tmp_path / "alone"
    train_run(tiny(*FOLDS, "data.fold=1"), str(alone))
    assert json.loads((alone / "results.json").read_text())["last"] == results["members"][1]["last"]
    with pytest.raises(UsageError, match=r"holds runs \(cross-validation\) with another config"):
        train_folds(tiny(*FOLDS, "optimizer.momentum=0.5"), str(tmp_path / "all"))


def test_what_cannot_go_together_is_one_line(tmp_path, capsys):
    command = ["--config=experiments/mlp_mnist.py", "--config.data.source=synthetic", f"--workdir={tmp_path / 'run'}"]
    assert main([*command, "--config.data.folds=3", "--config.ensemble_size=2"]) == 2
    assert "config.data.folds and config.ensemble_*" in capsys.readouterr().err
    assert main([*command, "--config.data.folds=1"]) == 2
    assert "config.data.folds is 1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
