# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest

from cnnjax.commands import main
from cnnjax.training_run import train_run


def test_norms_before_and_after_training_and_the_picture(tiny, tmp_path: Path, capsys: pytest.CaptureFixture):
    for seed in (0, 1):
        train_run(tiny(f"seed={seed}"), str(tmp_path / f"seed{seed}"))
    out = tmp_path / "gradients.png"
    runs = [str(tmp_path / f"seed{seed}") for seed in (0, 1)]
    capsys.readouterr()
    assert main(["gradients", *runs, f"--out={out}", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert [run["run"] for run in document["runs"]] == ["seed0", "seed1"]
    for run in document["runs"]:
        assert [layer["name"] for layer in run["layers"]] == ["hidden1/kernel", "output/kernel"]
        norms = np.array([[layer["initial"], layer["trained"]] for layer in run["layers"]])
        assert (norms > 0).all()
        assert (norms[:, 0] != norms[:, 1]).all()
    assert main(["gradients", *runs]) == 0  # beside the first run
    assert (tmp_path / "seed0/gradients.png").exists()
    assert "first, before" in capsys.readouterr().out


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["gradients", str(tmp_path)]) == 1
    assert "holds no run" in capsys.readouterr().err
    assert main(["gradients", str(tmp_path), "--num_images=0"]) == 2
    assert "--num_images is 0" in capsys.readouterr().err
