# SPDX-License-Identifier: Apache-2.0
"""Runs on disk, written as training writes them but without training, and a browser."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cnnjax import workdir
from cnnjax.metrics import Evaluation
from cnnjax.report.environment import write_json
from cnnjax.report.log import RunLog
from cnnjax.types import Dataset, Split

EVIL = "<script>alert(1)</script>"
NAMES = ("cat & dog", EVIL, "naïve 猫")


@pytest.fixture
def dataset() -> Dataset:
    """Three classes, one of them with a hostile name, 24 colour pictures of 8x8 in each split."""
    rng = np.random.default_rng(0)

    def split() -> Split:
        return Split(rng.integers(0, 256, (24, 8, 8, 3), np.uint8), np.arange(24, dtype=np.int32) % 3)

    return Dataset("tiny <b>set</b>", NAMES, {"train": split(), "test": split()})


@pytest.fixture
def evaluation(dataset: Dataset) -> Evaluation:
    """20 of 24 right, the wrong ones with the highest loss and less sure."""
    label = dataset.splits["test"].label
    wrong = np.arange(24) >= 20
    prediction = np.where(wrong, (label + 1) % 3, label).astype(np.int32)
    loss = np.where(wrong, np.arange(24) / 10, 0.1).astype(np.float32)
    values = {"loss": loss, "accuracy": (~wrong).astype(np.float32)}
    return Evaluation(values, prediction, np.where(wrong, 0.6, 0.9).astype(np.float32), label)


@pytest.fixture
def write_run(tmp_path: Path, tiny, dataset: Dataset):
    """`write_run("name", "model.name=mlp", finished=True, accuracy=0.8)`: a run's folder, 100 records long."""

    def write(
        name: str, *overrides: str, finished: bool = True, accuracy: float = 20 / 24, num_records: int = 100
    ) -> Path:
        path = tmp_path / name
        config = tiny(*overrides)
        path.mkdir(parents=True)
        info = workdir.describe_dataset(dataset)
        write_json(path / workdir.DATASET_FILE, info._asdict())
        environment = {
            "start_time": "2026-01-02T03:04:05+00:00",
            "command": "python run.py",
            "versions": {"jax": "0.10.2"},
            "devices": [{"kind": "cpu", "count": 1}],
        }
        write_json(path / workdir.ENVIRONMENT_FILE, environment)
        write_json(path / "config.json", json.loads(config.to_json()))
        with RunLog(path) as log:
            for step in range(1, num_records + 1):
                rates = {"learning_rate": 0.1 / step, "gradient_norm": 2.0, "images_per_second": 1000.0}
                log.write(step, "train", {"epoch": step / 10, "loss": 3.0 / step, "accuracy": 1 - 1 / step, **rates})
                if step % 20 == 0:
                    log.write(step, "validation", {"epoch": step / 10, "loss": 4.0 / step, "accuracy": accuracy})
            if finished:
                summary = {"loss": 0.3, "accuracy": accuracy}
                log.write(num_records, "test", {"epoch": num_records / 10, **summary})
                write_json(path / workdir.RESULTS_FILE, {"step": num_records, "last": {"test": summary}})
        return path

    return write


@pytest.fixture(scope="session")
def chromium() -> str:
    """A browser; the test is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no chromium is installed")


@pytest.fixture
def browse(chromium: str, tmp_path: Path):
    """`browse(page, width)` -> (the document after its scripts ran, what was said on the console)."""

    def run(page: Path, width: int, *flags: str) -> tuple[str, list[str]]:
        command = [
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--virtual-time-budget=3000",
            f"--window-size={width},1400",
            *flags,
            "--dump-dom",
            page.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return done.stdout, said

    return run
