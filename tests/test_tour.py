# SPDX-License-Identifier: Apache-2.0
"""Every command of docs/tour.md, in its order, on small synthetic data."""

import glob
import re
import shlex
from pathlib import Path

import pytest

from cnnjax.commands import main

ROOT = Path(__file__).parents[1]
SMALL = (
    "data.source=synthetic",
    "data.synthetic.num_examples=64",
    "data.batch_size=8",
    "data.eval_batch_size=16",
    "train.num_steps=2",
    "train.eval_every_steps=2",
    "train.checkpoint_every_steps=2",
    "schedule.warmup_steps=0",
)
SHAPES = {"mnist": "(28,28,1)", "cifar10": "(32,32,3)"}


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/tour.md").read_text(), re.S)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert lines and all(line[:3] == ["uv", "run", "run.py"] for line in lines)
    return [line[3:] for line in lines]


def small(argv: list[str]) -> list[str]:
    """The command as it stands, but for the size of what it works on."""
    argv = [name for word in argv for name in (sorted(glob.glob(word)) if "*" in word else [word])]  # noqa: PTH207
    config = next((word for word in argv if word.startswith("--config=")), "")
    if config:
        shape = next(shape for name, shape in SHAPES.items() if name in config)
        argv += [f"--config.{override}" for override in (*SMALL, f"data.synthetic.image_shape={shape}")]
        argv += ["--config.model.depth=8"] if ":plain56" in config else []
    if argv[0] == "see" and not any(word.startswith("--num=") for word in argv):
        argv += ["--num=2"]
    return argv


def test_every_picture_of_the_tour_is_there():
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (ROOT / "docs/tour.md").read_text())
    assert len(pictures) >= 10
    for picture in pictures:
        assert (ROOT / "docs" / picture).read_bytes().startswith(b"\x89PNG"), picture


@pytest.mark.slow
def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("docs", "experiments"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    for argv in commands():
        assert main(small(argv)) == 0, shlex.join(argv)
