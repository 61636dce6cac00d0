# SPDX-License-Identifier: Apache-2.0
"""`run.py report` on a run that was trained, and on several."""

import json
from pathlib import Path

import pytest

from cnnjax.commands import main
from cnnjax.training_run import train_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    from cnnjax.config import load_config

    default = Path(__file__).parents[2] / "experiments/default.py"
    small = {
        "data.source": "synthetic",
        "data.synthetic.num_examples": "96",
        "data.synthetic.num_classes": "3",
        "data.synthetic.image_shape": "(8,8,1)",
        "data.batch_size": "16",
        "data.eval_batch_size": "16",
        "model.hidden": "(8,)",
        "train.num_steps": "6",
        "train.checkpoint_every_steps": "3",
        "train.log_every_steps": "2",
    }
    config = load_config(str(default), [f"--config.{key}={value}" for key, value in small.items()])
    path = tmp_path_factory.mktemp("runs") / "one"
    train_run(config, str(path))
    return path


def test_the_page_of_a_run(trained: Path, capsys: pytest.CaptureFixture[str]):
    (trained / "report.html").unlink(missing_ok=True)
    assert main(["report", f"--workdir={trained}"]) == 0
    assert capsys.readouterr().out.strip() == str(trained / "report.html")
    page = (trained / "report.html").read_text()
    accuracy = json.loads((trained / "results.json").read_text())["last"]["test"]["accuracy"]
    assert f"{accuracy:.2%}" in page
    for title in ("Confusion", "Calibration", "First layer", "Network", "Data", "Config", "Time and place"):
        assert f"<h2>{title}</h2>" in page


def test_a_run_given_by_its_place(trained: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(trained)]) == 0
    assert capsys.readouterr().out.strip() == str(trained / "report.html")


def test_an_older_checkpoint_is_named(trained: Path, capsys: pytest.CaptureFixture[str]):
    steps = sorted(int(path.name) for path in (trained / "checkpoints").iterdir() if path.name.isdigit())
    assert len(steps) > 1
    assert main(["report", f"--workdir={trained}", f"--checkpoint={steps[0]}"]) == 0
    assert f"are those of step {steps[0]}" in (trained / "report.html").read_text()


def test_full_draws_the_views_and_embeds_them(trained: Path, monkeypatch: pytest.MonkeyPatch):
    from PIL import Image

    from cnnjax.commands import see
    from cnnjax.errors import UsageError
    from cnnjax.report.environment import write_json

    asked = []

    def draw(args) -> int:
        asked.append(*args.views)
        if len(asked) > 1:
            raise UsageError("this view does not suit the network")
        (trained / "see").mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(trained / "see/view.png")
        write_json(trained / "see/view.json", {"pictures": [{"file": "view.png", "caption": "a picture of it"}]})
        return 0

    monkeypatch.setattr(see, "run", draw)
    assert main(["report", f"--workdir={trained}", "--full"]) == 0
    assert len(asked) > 1 and len(asked) == len(set(asked))
    assert 'alt="a picture of it"' in (trained / "report.html").read_text()


def test_without_the_data_the_rest_is_shown(trained: Path, caplog: pytest.LogCaptureFixture):
    assert main(["report", f"--workdir={trained}", "--config.data.source=folder:/nowhere"]) == 0
    page = (trained / "report.html").read_text()
    assert "The data are not at hand" in page and "<h2>Confusion</h2>" not in page and "<h2>Network</h2>" in page


def test_several_runs_on_one_page(write_like, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, second = write_like("a", 0), write_like("b", 1)
    (tmp_path / "notes.txt").write_text("a file among the folders, as a glob gives it")
    assert main(["report", str(first), str(tmp_path / "notes.txt"), str(second)]) == 0
    assert capsys.readouterr().out.strip() == str((tmp_path / "comparison.html").resolve())
    assert "2 runs compared" in (tmp_path / "comparison.html").read_text()
    assert main(["report", str(tmp_path), f"--out={tmp_path / 'x.html'}"]) == 0
    assert "2 runs compared" in (tmp_path / "x.html").read_text()


@pytest.fixture
def write_like(trained: Path, tmp_path: Path):
    """Copies of the trained run, each with its own seed."""

    def write(name: str, seed: int) -> Path:
        path = tmp_path / name
        path.mkdir()
        for file in ("dataset.json", "environment.json", "metrics.jsonl", "results.json"):
            (path / file).write_text((trained / file).read_text())
        config = json.loads((trained / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, "seed": seed}))
        return path

    return write


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no run given"),
        (["{run}", "--out=x.html"], "--out is for"),
        (["{run}", "{run}", "--full"], "are for one run"),
    ],
)
def test_wrong_usage(trained: Path, arguments, words, capsys: pytest.CaptureFixture[str]):
    assert main(["report", *(argument.format(run=trained) for argument in arguments)]) == 2
    assert words in capsys.readouterr().err


def test_a_folder_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(tmp_path)]) == 1
    assert "there is no run in" in capsys.readouterr().err
    assert main(["report", f"--workdir={tmp_path}"]) == 1
    assert "holds no run" in capsys.readouterr().err
