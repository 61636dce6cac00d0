# SPDX-License-Identifier: Apache-2.0
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.bench.loading import format_loading
from cnnjax.commands import main


def test_a_set_in_memory_is_not_streamed(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "--config=experiments/lenet5_digits.py", "--mode=input", "--peer=torch"]) == 2
    assert "set config.data.stream=true" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_without_torchvision(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(5):
            Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / label / f"{i}.jpg")
    own = [f"--config.data.source=folder:{tmp_path}", "--config.data.stream=true", "--config.data.batch_size=2"]
    assert main(["bench", "--config=experiments/folder.py", "--mode=input", "--peer=torch", *own]) == 1
    assert "needs torchvision, of the group `peers`" in capsys.readouterr().err


def test_the_table_counts_by_core():
    rates = {"cnnjax": {"median": 300.0, "min": 290.0, "max": 310.4}}
    table = format_loading({"batch_size": 8, "cores": 2, "rounds": 3, "images_per_second": rates})
    assert table.splitlines()[-1].split() == ["cnnjax", "300", "290", "to", "310", "150"]
