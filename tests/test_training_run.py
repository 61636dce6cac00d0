# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil
import signal
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax import shared
from cnnjax.checkpoint import Checkpoints
from cnnjax.errors import RunError, UsageError
from cnnjax.experiment import load_network
from cnnjax.report.log import read_metrics
from cnnjax.stopping import Stop
from cnnjax.training_run import train_run

EVERYTHING = (
    "model.dropout_rate=0.2",
    "augment.mirror=0.5",
    "augment.shift=1",
    "augment.rotate=10.0",
    "augment.mixup=0.2",
    "optimizer.name=adam",
    "train.ema_decay=0.9",
    "schedule.name=cosine",
    "schedule.warmup_steps=2",
)


@pytest.fixture(scope="module")
def done(tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished run of `tiny()`, with its pictures, and what the run told."""
    folder = tmp_path_factory.mktemp("done")
    return folder, train_run(tiny(), str(folder))


@pytest.fixture
def finished(done: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of that folder, to go on with."""
    return shutil.copytree(done[0], tmp_path / "finished")


def stored(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by its path."""
    from orbax.checkpoint import v1 as ocp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that shardings are not given; one process reads all here
        tree = ocp.load(str(workdir / "checkpoints" / str(step)), checkpointable_name="state")
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys() and len(a) > 8
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


class _StopAfter:
    """A log that sends the process a signal when it has seen a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int, number: int):
        write = shared.RunLog.write

        def stopping(log, at, split, metrics):
            write(log, at, split, metrics)
            if at == step and split == "train":
                os.kill(os.getpid(), number)

        monkeypatch.setattr(shared.RunLog, "write", stopping)


@pytest.mark.optimized
def test_a_run_stopped_at_any_step_ends_bit_for_bit_as_one_that_was_not(tiny, tmp_path, monkeypatch):
    config = tiny(*EVERYTHING)
    train_run(config, str(tmp_path / "whole"), draws=False)
    for step, number in ((2, signal.SIGTERM), (4, signal.SIGINT)):
        workdir = tmp_path / f"stopped{step}"
        with monkeypatch.context() as patch:
            _StopAfter(patch, step, number)
            with pytest.raises(Stop) as stop:
                train_run(config, str(workdir), draws=False)
        assert stop.value.step == step
        assert Checkpoints(workdir).latest() == step
        train_run(config, str(workdir), draws=False)
        assert_same_bits(stored(tmp_path / "whole", 6), stored(workdir, 6))
    whole, again = ([r for r in read_metrics(w) if r["split"] == "validation"] for w in (tmp_path / "whole", workdir))
    assert whole == again


def test_the_run_folder_explains_itself(done):
    folder, text = done
    for name in ("config.json", "environment.json", "dataset.json", "results.json", "metrics.jsonl"):
        assert (folder / name).stat().st_size > 10, name
    for name in ("curves.png", "confusion.png", "mistakes.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG"), name
    assert list((folder / "tensorboard").iterdir())
    assert "test, last step" in text and str(folder / "results.json") in text
    results = json.loads((folder / "results.json").read_text())
    assert results["step"] == 6 and 0 <= results["last"]["test"]["accuracy"] <= 1
    records = read_metrics(folder)
    assert [r["step"] for r in records if r["split"] == "train"] == [2, 4, 6]
    assert [r["step"] for r in records if r["split"] == "validation"] == [2, 3, 4, 6]
    assert [r["step"] for r in records if r["split"] == "test"] == [6]
    assert {"loss", "accuracy", "gradient_norm", "learning_rate", "epoch"} <= records[0].keys()


AUTOENCODER = ("model.name=autoencoder", "model.latent=2", "model.widths=(2,4)", "task.name=reconstruction")


def test_a_network_that_reconstructs_has_pictures_and_its_own_metrics(tiny, tmp_path):
    text = train_run(tiny(*AUTOENCODER, "data.mean=(0.3,)", "data.std=(0.2,)"), str(tmp_path))
    assert (tmp_path / "reconstructions.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "confusion.png").exists() and "confusion.png" not in text and "dB" in text
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["last"]["test"]) == ["loss", "mse", "psnr", "ssim"]
    strips = sorted((tmp_path / "reconstructions").glob("*.png"))
    assert [strip.stem for strip in strips] == [f"step_0000000{step}" for step in (2, 3, 4, 6)]
    assert all(strip.stat().st_size < 20_000 for strip in strips) and strips[0].read_bytes() != strips[-1].read_bytes()
    assert train_run(tiny(*AUTOENCODER, "data.mean=(0.3,)", "data.std=(0.2,)"), str(tmp_path)) in text


def test_without_accuracy_the_lowest_validation_loss_is_the_best(tiny, tmp_path):
    config = tiny(*AUTOENCODER, "train.keep_checkpoints=1", "optimizer.learning_rate=0.5")
    train_run(config, str(tmp_path), draws=False)
    losses = {r["step"]: r["loss"] for r in read_metrics(tmp_path) if r["split"] == "validation" and r["step"] % 2 == 0}
    best = min(losses, key=lambda step: losses[step])
    assert len(losses) == 3 and len(set(losses.values())) == 3
    assert Checkpoints(tmp_path).best() == best and load_network(str(tmp_path), "best").step == best


def test_a_finished_run_started_again_changes_nothing(tiny, finished):
    before = stored(finished, 6)
    records = read_metrics(finished)
    train_run(tiny(), str(finished))
    assert_same_bits(before, stored(finished, 6))
    assert [r for r in read_metrics(finished) if r["split"] != "test"] == [r for r in records if r["split"] != "test"]


def test_latest_and_best_are_kept(tiny, tmp_path):
    train_run(tiny("train.keep_checkpoints=1", "train.num_steps=12"), str(tmp_path), draws=False)
    checkpoints = Checkpoints(tmp_path)
    scores = {
        r["step"]: r["accuracy"] for r in read_metrics(tmp_path) if r["split"] == "validation" and r["step"] % 2 == 0
    }
    best = max(scores, key=lambda step: (scores[step], step))
    assert checkpoints.best() == best
    assert checkpoints.steps() == sorted({best, 12})


def test_without_validation_no_checkpoint_is_chosen(tiny, tmp_path):
    config = tiny("data.source=digits", "data.validation_fraction=0.0", "train.num_steps=2", "data.eval_batch_size=360")
    train_run(config, str(tmp_path), draws=False)
    assert Checkpoints(tmp_path).best() is None
    with pytest.raises(UsageError, match="no validation split"):
        load_network(str(tmp_path), "best")


def test_another_config_is_listed_and_refused_unless_accepted(tiny, finished, caplog):
    longer = tiny("train.num_steps=8", "optimizer.learning_rate=0.01")
    with pytest.raises(UsageError, match=r"2 keys differ.*--accept_changes"):
        train_run(longer, str(finished))
    assert "config.train.num_steps" in caplog.text and "0.05" in caplog.text
    train_run(longer, str(finished), accept_changes=True, draws=False)
    assert Checkpoints(finished).latest() == 8


def test_a_checkpoint_of_another_network_is_refused_with_a_table(tiny, finished, caplog):
    before = stored(finished, 6)
    with pytest.raises(RunError, match=r"holds another network.*arrays differ"):
        train_run(tiny("model.hidden=(9,5)", "train.num_steps=8"), str(finished), accept_changes=True)
    assert (
        "params/hidden1/kernel" in caplog.text and "float32[64, 8]" in caplog.text and "float32[64, 9]" in caplog.text
    )
    assert "params/hidden2/kernel" in caplog.text
    assert_same_bits(before, stored(finished, 6))


def test_a_loss_that_leaves_the_floats_stops_the_run(tiny, tmp_path):
    config = tiny("optimizer.learning_rate=1e30", "train.num_steps=40", "train.checkpoint_every_steps=1")
    with pytest.raises(RunError) as error:
        train_run(config, str(tmp_path))
    message = str(error.value)
    assert "\n" not in message and "config.optimizer.learning_rate" in message
    step = int(message.split("at step ")[1].split()[0].rstrip(";"))
    latest = Checkpoints(tmp_path).latest()
    assert latest is None or latest < step
    assert all(np.isfinite(value).all() for value in stored(tmp_path, latest).values()) if latest else True


def test_an_unwritable_workdir_is_one_line(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write to the workdir"):
        train_run(tiny(), str(tmp_path / "file" / "run"))


def test_numbers_that_do_not_fit_each_other(tiny, tmp_path):
    for overrides, message in (
        (("data.batch_size=960",), "a batch of 960 is larger than the training set of 96"),
        (("data.batch_size=15",), "does not divide over 2 devices"),
        (("train.accumulate=5",), "config.train.accumulate = 5 does not divide"),
        (("model.hiden=(3,)",), "did you mean 'hidden'"),
        (("model.name=lenet6",), "did you mean 'lenet5'"),
        (("schedule.name=cosin",), "did you mean 'cosine'"),
        (("task.name=reconstruction",), "needs a network with the output 'recon'"),
        ((*AUTOENCODER, "task.name=classification"), "this one is for config.task.name=reconstruction"),
        ((*AUTOENCODER, "model.widths=(2,2,2,2)"), "both sides must be multiples of 16"),
    ):
        with pytest.raises(UsageError, match=message):
            train_run(tiny(*overrides), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


# The library's threads complain about the failed read while they are cleared away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_told_and_the_last_whole_one_is_taken(tiny, finished, caplog):
    results = json.loads((finished / "results.json").read_text())
    for file in (finished / "checkpoints" / "6" / "state").rglob("manifest*"):
        file.unlink()
    assert load_network(str(finished)).step == 4 and "checkpoint 6" in caplog.text
    with pytest.raises(RunError) as error:
        load_network(str(finished), "6")
    assert "\n" not in str(error.value) and "checkpoint 6" in str(error.value)
    (finished / "results.json").unlink()  # as if it had been killed before it wrote them
    train_run(tiny(), str(finished), draws=False)  # goes on from step 4, and to the same numbers
    assert load_network(str(finished)).step == 6 and (finished / "damaged" / "6").is_dir()
    again = json.loads((finished / "results.json").read_text())
    assert {**again, "seconds": results["seconds"]} == results
