# SPDX-License-Identifier: Apache-2.0
"""What the commands say of a network that reconstructs and knows no classes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.commands import main
from cnnjax.training_run import train_run


@pytest.fixture
def trained(tiny, tmp_path: Path) -> Path:
    overrides = ("model.name=autoencoder", "model.latent=2", "model.widths=(2,)", "task.name=reconstruction")
    train_run(tiny(*overrides), str(tmp_path / "run"))
    return tmp_path / "run"


def test_evaluate_has_no_classes(capsys, trained: Path):
    assert main(["evaluate", f"--workdir={trained}", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"loss", "mse", "psnr", "ssim"} <= result.keys() and not [key for key in result if "accuracy" in key]
    assert result["mse"] == json.loads((trained / "results.json").read_text())["last"]["test"]["mse"]
    assert main(["evaluate", f"--workdir={trained}", "--checkpoint=best", "--split=validation"]) == 0
    out = capsys.readouterr().out
    assert "dB" in out and "class" not in out


def test_predict_says_in_one_line_that_there_are_none(capsys, trained: Path, tmp_path: Path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    capsys.readouterr()
    assert main(["predict", f"--workdir={trained}", str(tmp_path / "a.png")]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    assert "autoencoder reconstructs pictures and has no classes" in captured.err
