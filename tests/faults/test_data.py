# SPDX-License-Identifier: Apache-2.0
"""Pictures that vanish while they are read, and a folder that vanishes in the midst of a run."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax import data
from cnnjax.data import folder
from cnnjax.errors import CnnjaxError, RunError
from cnnjax.report.log import RunLog
from cnnjax.training_run import train_run
from tests.faults import runs


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """60 noisy pictures of two kinds."""
    draw = np.random.default_rng(0)
    for label in ("dark", "light"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(30):
            pixels = draw.integers(0, 128, (8, 8), np.uint8) + (128 if label == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pictures" / label / f"{i:02}.png")
    return tmp_path / "pictures"


def test_pictures_that_vanish_while_they_are_read_are_named_or_skipped(tiny, tmp_path, pictures, monkeypatch, caplog):
    load = folder.load_source

    def vanishing(*arguments):
        source = load(*arguments)
        for i in (3, 7):
            (pictures / "dark" / f"{i:02}.png").unlink(missing_ok=True)
        return source

    monkeypatch.setattr(folder, "load_source", vanishing)
    source = f"data.source=folder:{pictures}"
    with pytest.raises(
        RunError, match=r"^2 of the pictures cannot be read: .*dark/0[37]\.png .*No such file"
    ) as caught:
        data.load_dataset(tiny(source).data)
    assert "set config.data.on_bad_image=skip" in str(caught.value)
    for i in (3, 7):
        shutil.copy(pictures / "dark" / "00.png", pictures / "dark" / f"{i:02}.png")
    dataset = data.load_dataset(tiny(source, "data.on_bad_image=skip").data)
    assert sum(len(split.label) for split in dataset.splits.values()) == 58 and "skipped" in caplog.text


def test_a_folder_that_vanishes_in_the_midst_of_a_run_ends_nothing(tiny, tmp_path, pictures, monkeypatch):
    config = tiny(f"data.source=folder:{pictures}")
    train_run(config, str(tmp_path / "whole"), draws=False)
    write = RunLog.write

    def vanishing(*arguments):
        shutil.rmtree(pictures, ignore_errors=True)
        write(*arguments)

    monkeypatch.setattr(RunLog, "write", vanishing)
    train_run(config, str(tmp_path / "run"), draws=False)
    runs.assert_same(tmp_path / "whole", tmp_path / "run")
    with pytest.raises(CnnjaxError, match=r"^no folder .*pictures; set config\.data\.source"):
        train_run(config, str(tmp_path / "another"), draws=False)
