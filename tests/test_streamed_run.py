# SPDX-License-Identifier: Apache-2.0
"""Training on a streamed set is training on a resident one, whoever decodes and wherever it is interrupted."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnjax.checkpoint import Checkpoints
from cnnjax.data import load_dataset
from cnnjax.data.streams import train_stream
from cnnjax.errors import RunError, UsageError
from cnnjax.report.log import read_metrics
from cnnjax.training_run import train_run
from cnnjax.types import Config


@pytest.fixture
def streamed(tiny: Callable[..., Config], tmp_path: Path) -> Callable[..., Config]:
    """`streamed(*overrides)`: a tiny run on 40 JPEGs."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(20):
            image = random.integers(0, 256, (24, 30, 3)).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "set" / name / f"{i}.jpg")
    own = (f"data.source=folder:{tmp_path / 'set'}", "data.image_size=(8,8)", "data.stream=true", "augment.mirror=0.5")
    return lambda *overrides: tiny(*own, "augment.crop_area=(0.2,1.0)", *overrides)


def numbers(workdir: Path) -> list[dict[str, Any]]:
    times = ("images_per_second", "seconds", "compile_seconds", "data_wait")
    return [{k: v for k, v in record.items() if k not in times} for record in read_metrics(workdir)]


def test_a_streamed_run_is_that_of_a_resident_set(streamed: Callable[..., Config], tmp_path: Path):
    runs = {"true": tmp_path / "streamed", "false": tmp_path / "resident"}
    for stream, workdir in runs.items():
        config = streamed("data.crop_whole=false", f"data.stream={stream}")
        train_run(config, str(workdir), draws=stream == "true")
    assert numbers(runs["true"]) == numbers(runs["false"])
    for stream, workdir in runs.items():
        train = [record for record in read_metrics(workdir) if record["split"] == "train"]
        assert all(("data_wait" in record) == (stream == "true") for record in train)
        assert all(0 <= record.get("data_wait", 0) <= 1 for record in train)
    assert (runs["true"] / "mistakes.png").is_file() and (runs["true"] / "report.html").is_file()


def test_a_file_that_vanishes_ends_the_run_in_one_line(streamed: Callable[..., Config], tmp_path: Path):
    config, workdir = streamed(), tmp_path / "run"
    original, folder = Checkpoints.save, tmp_path / "set"

    def save_and_lose(self: Checkpoints, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        if (folder / "cat").exists():
            shutil.move(folder / "cat", tmp_path / "gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_lose)
        with pytest.raises(RunError, match=r"set/cat/\d+.jpg cannot be read \(No such file or directory\)"):
            train_run(config, str(workdir), draws=False)
    shutil.move(tmp_path / "gone", folder / "cat")
    train_run(config, str(workdir), draws=False)
    assert [record["step"] for record in read_metrics(workdir) if record["split"] == "train"] == [2, 4, 6]


def test_ensembles_want_a_resident_set(streamed: Callable[..., Config], tmp_path: Path):
    from cnnjax.ensemble.ensemble_run import train_ensemble

    with pytest.raises(UsageError, match=r"config.data.stream=false"):
        train_ensemble(streamed("ensemble_size=2"), str(tmp_path / "run"))


@pytest.mark.slow
def test_batches_are_the_same_with_any_number_of_workers(streamed: Callable[..., Config]):
    """And from any step on, with the number of workers changed there."""
    expected: list[dict[str, np.ndarray]] = []
    for workers, threads in ((0, 1), (0, 3), (1, 1), (2, 2), (4, 1)):
        config = streamed(f"data.workers={workers}", f"data.threads={threads}", "augment.mixup=0.2")
        split = load_dataset(config.data, ("train",)).splits["train"]
        stream = train_stream(config, split, with_partner=True)
        found = [stream.items(step, 1) for step in range(9)]
        stream.close()
        expected = expected or found
        again = train_stream(config, split, with_partner=True)
        found[5:] = [again.items(step, 1) for step in range(5, 9)]
        again.close()
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.keys() == theirs.keys()
            for name in ours:
                np.testing.assert_array_equal(ours[name], theirs[name])
