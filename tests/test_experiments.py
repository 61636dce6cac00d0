# SPDX-License-Identifier: Apache-2.0
"""Every shipped experiment is short, documented and trains."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from cnnjax import devices
from cnnjax.config import load_config
from cnnjax.data import load_dataset
from cnnjax.experiment import build_model, build_training
from cnnjax.training_run import train_run
from cnnjax.types import Config

FILES = [path for path in sorted(Path("experiments").glob("*.py")) if path.stem not in ("__init__", "default")]
VARIANTS = {
    "alexnet_imagenet": ("published", "one_tower"),
    "cats_vs_dogs": ("tfds", "folder", "cifar"),
    "cifar10_speedrun": ("gpu", "cpu"),
    "depth_cifar10": ("bare20", "bare56", "plain20", "plain56", "resnet20", "resnet56"),
    "logistic_digits": ("", "one_neuron"),
    "plain_cifar10": ("20", "56"),
    "resnet_cifar10": ("20", "32", "44", "56", "110"),
    "resnet_imagenet": ("18", "34", "50", "101", "152"),
    "vgg_imagenet": ("A", "A-LRN", "B", "C", "D", "E"),
}
# Variants of one network that takes long to compile or fills gigabytes: the others run with --slow.
QUICK: dict[str, tuple[str, ...]] = {
    "alexnet_imagenet": (),
    "cats_vs_dogs": ("cifar",),
    "cifar10_speedrun": ("cpu",),
    "depth_cifar10": (),
    "plain_cifar10": (),
    "resnet_cifar10": ("20",),
    "resnet_imagenet": (),
    "vgg_imagenet": (),
}
# The same networks with fewer or narrower layers: quick to compile. At full size they are traced, all the same.
NARROW: dict[str, tuple[str, ...]] = {
    "autoencoder_faces": ("model.widths=(2,4,4,8)", "data.image_size=(32,32)"),
    "cats_vs_dogs": ("model.widths=(4,8)",),
    "cifar10_speedrun": ("model.widths=(8,8,8)",),
    "folder": ("model.widths=(4,4,8,8)", "data.image_size=(32,32)"),
    "resnet_cifar10": ("model.depth=8",),
    "simple_cnn_cifar10": ("model.widths=(4,8)",),
}
# Variants that are another of the same network, only deeper: they are built with --slow.
DEEPER = ("bare56", "plain56", "resnet56", "44", "56", "110", "101", "152")
CASES = [(path, variant) for path in FILES for variant in VARIANTS.get(path.stem, ("",))]
# Height, width and channels by a word of the experiment's name.
SHAPES = {
    "mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "digits": (8, 8, 1),
    "faces": (64, 64, 3),
    "folder": (48, 40, 3),
    "cats_vs_dogs": (120, 100, 3),
    "imagenet": (240, 300, 3),
}


def reduced(path: Path, variant: str, *overrides: str) -> Config:
    """The experiment on a few synthetic pictures of its own kind."""
    shape = next(shape for name, shape in SHAPES.items() if name in path.stem)
    labels = "('class 3','class 8')" if variant == "one_neuron" else "()"
    small = (
        "data.source=synthetic",
        "init_from=",
        "data.synthetic.num_examples=64",
        f"data.synthetic.image_shape={shape}",
        f"data.labels={labels}",
        "data.test_split=test",
        "data.batch_size=8",
        "data.eval_batch_size=16",
        "train.num_steps=2",
        "schedule.warmup_steps=0",
    )
    spec = f"{path}:{variant}" if variant else str(path)
    return load_config(spec, [f"--config.{o}" for o in (*small, *overrides)])


def cases(quick: Callable[[str, str], bool]) -> list[Any]:
    """All variants, `slow` those that are not quick."""
    slow = {True: (), False: (pytest.mark.slow,)}
    return [pytest.param(p, v, id=f"{p.stem}:{v}", marks=slow[quick(p.stem, v)]) for p, v in CASES]


@pytest.mark.parametrize(("path", "variant"), cases(lambda name, variant: variant in QUICK.get(name, (variant,))))
def test_two_steps_on_synthetic_data(path: Path, variant: str, tmp_path: Path):
    # The recipes' rates are for batches of 256; at 2 images 152 layers diverge in the first step.
    rate = "optimizer.learning_rate=0.001"
    full_size = ("data.batch_size=2", "data.eval_batch_size=2", "data.synthetic.num_examples=8", rate)
    own = NARROW.get(path.stem, ()) if variant in QUICK.get(path.stem, (variant,)) else ()
    config = reduced(path, variant, *(full_size if "imagenet" in path.stem else own))
    train_run(config, str(tmp_path / "run"), draws=False)


@pytest.mark.parametrize(("path", "variant"), cases(lambda name, variant: variant not in DEEPER))
def test_every_variant_builds_at_full_size(path: Path, variant: str):
    """Config, network, optimizer and step fit each other: all is traced, nothing computed."""
    config = reduced(path, variant)
    dataset = load_dataset(config.data, ("train",))
    training = build_training(config, build_model(config, len(dataset.label_names)), dataset, devices.make_mesh())
    state, _ = jax.eval_shape(
        training.dispatch,
        training.abstract_state,
        training.stream.arrays,
        training.stream.items(0, training.steps_per_dispatch),
        1,
    )
    assert state.step.shape == ()
    assert jax.tree.map(jnp.shape, state.params) == jax.tree.map(jnp.shape, training.abstract_state.params)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_short_and_documented(path: Path):
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert len(text.splitlines()) <= 50
    assert f"run.py --config={path}" in docstring
    assert re.search(r"^Hardware: ", docstring, re.M) and re.search(r"^Result: ", docstring, re.M)
