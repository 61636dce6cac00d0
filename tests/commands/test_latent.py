# SPDX-License-Identifier: Apache-2.0
"""The command on an autoencoder of a second, and what it says of wrong flags."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.commands import main
from cnnjax.training_run import train_run

AUTOENCODER = ("model.name=autoencoder", "model.latent=3", "model.widths=(2,)", "task.name=reconstruction")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two steps on the same three classes: `ae`, and the classifier `judge`, which sees 4x4 pixels."""
    from cnnjax.config import load_config

    folder = tmp_path_factory.mktemp("runs")
    small = (
        "data.source=synthetic",
        "data.synthetic.num_examples=96",
        "data.synthetic.num_classes=3",
        "data.synthetic.image_shape=(8,8,1)",
        "data.batch_size=16",
        "data.eval_batch_size=16",
        "train.num_steps=2",
    )
    for name, own in (("ae", AUTOENCODER), ("judge", ("model.hidden=(4,)", "data.image_size=(4,4)"))):
        config = load_config("experiments/default.py", [f"--config.{o}" for o in (*small, *own)])
        train_run(config, str(folder / name))
    return folder


def test_figures_sheets_and_page(runs: Path, capsys, tmp_path: Path):
    argv = ["latent", f"--workdir={runs / 'ae'}", "--attribute=class 2", f"--classifier={runs / 'judge'}"]
    argv += ["--strengths=-1,0,2", "--draws=2", "--num=2", f"--out={tmp_path}", "--json"]
    capsys.readouterr()
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["against"] == "not class 2" and found["dimensions"] == 3 and found["direction"] == "mean"
    assert [row["strength"] for row in found["effect"]] == [-1.0, 0.0, 2.0]
    unchanged = found["effect"][1]
    assert unchanged["same"] > 0.8 and unchanged["psnr"] > 60  # itself, but for pictures that are the same
    assert found["random"]["draws"] == 2 and found["random"]["effect"][1]["rate"] == unchanged["rate"]
    assert 0 <= found["classifier"]["accuracy"] <= 1
    assert found["reconstruction"]["pca"]["psnr"] > 10
    assert json.loads((tmp_path / "latent.json").read_text()) == found
    names = [Path(row["file"]).name for row in found["files"]]
    assert names == ["sweep.png", "between.png", "neighbours.png", "plane.png", "embed.png", "slider.html"]
    assert all((tmp_path / name).stat().st_size > 1000 for name in names)


def test_a_picture_of_the_user_s_own_and_one_label_against_another(runs: Path, capsys, tmp_path: Path):
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(tmp_path / "me.png")
    argv = ["latent", f"--workdir={runs / 'ae'}", "--attribute=class 1", "--against=class 0", "--direction=logistic"]
    assert main([*argv, f"--image={tmp_path / 'me.png'}", "--draws=0", f"--out={tmp_path / 'out'}"]) == 0
    captured = capsys.readouterr()
    assert "autoencoder" in captured.out and "nearest is its own" in captured.out
    assert "me.png" in (tmp_path / "out/slider.html").read_text()
    assert not (tmp_path / "out/between.png").exists()  # one picture has no other to go to


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "no --attribute given; the set's labels are class 0, class 1, class 2"),
        (("--attribute=clas 2",), "unknown attribute (--attribute) 'clas 2'; did you mean 'class 2'"),
        (("--attribute=class 2", "--against=class 9"), "unknown label (--against) 'class 9'"),
        (("--attribute=class 2", "--against=class 2"), "unknown label (--against) 'class 2'"),
        (("--attribute=class 2", "--direction=man"), "unknown --direction 'man'; did you mean 'mean'"),
        (("--attribute=class 2", "--strengths=1,much"), "--strengths is '1,much'"),
        (("--attribute=class 2", "--index=9999"), "--index counts from 0 to"),
        (("--attribute=class 2", "--num=0"), "--num is 0"),
        (("--attribute=class 2", "--draws=-1"), "--draws is -1"),
        (("--attribute=class 2", "--image=NOTHING.png"), "no picture at NOTHING.png"),
        (("--attribute=class 2", "--image=README.md"), "cannot read README.md"),
    ],
)
def test_a_wrong_flag_is_one_clear_line(runs: Path, capsys, flags, message):
    capsys.readouterr()
    assert main(["latent", f"--workdir={runs / 'ae'}", *flags]) in (1, 2)
    captured = capsys.readouterr()
    assert message in captured.err and len(captured.err.splitlines()) == 1 and captured.out == ""


def test_a_run_of_another_kind_and_a_class_without_pictures(runs: Path, capsys):
    capsys.readouterr()
    assert main(["latent", f"--workdir={runs / 'judge'}", "--attribute=class 2"]) == 1
    assert "mlp of" in (said := capsys.readouterr().err) and "is no autoencoder" in said
    assert main(["latent", f"--workdir={runs / 'ae'}", "--attribute=class 2", f"--classifier={runs / 'ae'}"]) == 1
    assert "has no classes" in capsys.readouterr().err
