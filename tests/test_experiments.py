# SPDX-License-Identifier: Apache-2.0
"""Every shipped experiment is short, documented and trains."""

import ast
import re
from pathlib import Path

import pytest

from cnnjax.config import load_config
from cnnjax.training_run import train_run

FILES = [path for path in sorted(Path("experiments").glob("*.py")) if path.stem not in ("__init__", "default")]
VARIANTS = {"logistic_digits": ("", "one_neuron")}
CASES = [(path, variant) for path in FILES for variant in VARIANTS.get(path.stem, ("",))]
SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "digits": (8, 8, 1), "folder": (48, 40, 3)}


@pytest.mark.parametrize(("path", "variant"), CASES, ids=[f"{p.stem}:{v}" for p, v in CASES])
def test_two_steps_on_synthetic_data(path: Path, variant: str, tmp_path: Path):
    shape = next(shape for name, shape in SHAPES.items() if name in path.stem)
    labels = "('class 3','class 8')" if variant == "one_neuron" else "()"
    overrides = [
        "data.source=synthetic",
        "data.synthetic.num_examples=64",
        f"data.synthetic.image_shape={shape}",
        f"data.labels={labels}",
        "data.batch_size=8",
        "data.eval_batch_size=16",
        "train.num_steps=2",
        "schedule.warmup_steps=0",
    ]
    config = load_config(f"{path}:{variant}" if variant else str(path), [f"--config.{o}" for o in overrides])
    train_run(config, str(tmp_path / "run"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_short_and_documented(path: Path):
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert len(text.splitlines()) <= 50
    assert f"run.py --config={path}" in docstring
    assert re.search(r"^Hardware: ", docstring, re.M) and re.search(r"^Result: ", docstring, re.M)
