# SPDX-License-Identifier: Apache-2.0
"""The state divided over devices, and the same run on 1, 2, 4 and 8 of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from cnnjax.devices import check_enough, make_mesh
from cnnjax.errors import UsageError
from cnnjax.experiment import load_network
from cnnjax.parts import build
from cnnjax.report.log import read_metrics
from cnnjax.sharding import divide
from cnnjax.training_run import train_run

ROOT = Path(__file__).parents[1]
TOLERANCE = 1e-5  # relative, of losses after a few steps: only the order of sums differs


def losses(workdir: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(workdir)]


def test_an_array_is_divided_along_its_longest_axis_that_allows_it():
    shapes = {"kernel": (3, 3, 4, 6), "odd": (7, 5), "small": (4,), "dense": (8, 3), "scalar": ()}
    tree = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    found = {name: sharding.spec for name, sharding in divide(tree, make_mesh(), 8).items()}
    whole = PartitionSpec()
    assert found["kernel"] == PartitionSpec(None, None, None, "data") and found["dense"] == PartitionSpec("data")
    assert found["odd"] == found["small"] == found["scalar"] == whole
    assert all(sharding.spec == whole for sharding in divide(tree, make_mesh(), 0).values())


def test_divided_trains_as_whole_and_their_checkpoints_are_the_same_kind(tiny, tmp_path):
    options = ("optimizer.name=adam", "train.ema_decay=0.9", "optimizer.clip_norm=1.0", "train.accumulate=2")
    whole, divided = tiny(*options), tiny(*options, "train.shard_params=16")
    state = build(divided).training.abstract_state
    kernel = state.params["hidden1"]["kernel"]  # [64,8]
    assert kernel.sharding.shard_shape(kernel.shape) == (32, 8)
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == kernel.shape]
    assert len(moments) == 2 and all(m.sharding == kernel.sharding for m in moments)
    train_run(whole, str(tmp_path / "whole"), draws=False)
    train_run(divided, str(tmp_path / "divided"), draws=False)
    np.testing.assert_allclose(losses(tmp_path / "divided"), losses(tmp_path / "whole"), rtol=TOLERANCE)
    # Four steps divided, then two whole, are six.
    train_run(tiny(*options, "train.shard_params=16", "train.num_steps=4"), str(tmp_path / "both"), draws=False)
    train_run(whole, str(tmp_path / "both"), accept_changes=True, draws=False)
    ends = [load_network(str(tmp_path / name)).params for name in ("whole", "divided", "both")]
    for other in ends[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ends[0], other)


def test_more_devices_than_examples_is_told():
    check_enough(2, make_mesh())
    with pytest.raises(UsageError, match="2 devices and a training set of 1: a batch takes one example a device"):
        check_enough(1, make_mesh())


CHILD = """
import json, sys, zlib
from pathlib import Path
import jax
import numpy as np
from cnnjax import devices, parts, training_run
from cnnjax.config import load_config
from cnnjax.report.log import read_metrics

jax.config.update("jax_numpy_rank_promotion", "raise")
folder, *overrides = sys.argv[1:]
whole, found = jax.make_mesh, {}
for count in (1, 2, 4, 8):
    devices.make_mesh = lambda: jax.sharding.Mesh(np.asarray(jax.devices()[:count]), ("data",))
    for smallest in (0, 64):
        config = load_config("experiments/default.py", [*overrides, f"--config.train.shard_params={smallest}"])
        path = f"{folder}/{count}-{smallest}"
        built = parts.build(config)
        stream = built.training.stream
        item = jax.tree.map(lambda x: x[0], stream.items(3, 1))
        image = np.asarray(stream.batch(stream.arrays, item)["image"])
        training_run.train_run(config, path, draws=False)
        rows = [{k: r[k] for k in ("loss", "accuracy", "gradient_norm") if k in r} for r in read_metrics(Path(path))]
        found[f"{count}-{smallest}"] = {"rows": rows, "image": zlib.crc32(image.tobytes())}
print(json.dumps(found))
"""
SMALL = (
    "data.source=synthetic",
    "data.synthetic.num_examples=100",  # validation and test of 25: no number of devices divides them
    "data.synthetic.num_classes=3",
    "data.synthetic.image_shape=(8,8,1)",
    "data.batch_size=16",
    "data.eval_batch_size=10",
    "augment.mirror=0.5",
    "augment.shift=1",
    "train.num_steps=4",
    "train.eval_every_steps=2",
    "train.checkpoint_every_steps=4",
    "train.log_every_steps=2",
    "optimizer.learning_rate=0.05",
)


def on_1_to_8_devices(folder: Path, *overrides: str) -> dict[str, dict]:
    """What a run comes to, by "devices-shard_params"."""
    variables = {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-c", CHILD, str(folder), *(f"--config.{o}" for o in (*SMALL, *overrides))]
    env = {**os.environ, **variables}
    done = subprocess.run(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=900)
    return json.loads(done.stdout)


def worst(found: dict[str, dict]) -> float:
    """The largest relative difference to one device with the whole state; and all saw the same images."""
    first = found["1-0"]
    assert len({one["image"] for one in found.values()}) == 1 and len(first["rows"]) >= 4
    differences = []
    for one in found.values():
        for row, other in zip(first["rows"], one["rows"], strict=True):
            differences += [abs(row[name] - other[name]) / max(abs(row[name]), 1e-3) for name in row]
    return max(differences)


def test_1_2_4_and_8_devices_give_the_same_losses_from_the_same_images(tmp_path):
    found = on_1_to_8_devices(tmp_path, "model.hidden=(16,)", "train.accumulate=4")  # 4 examples a part, on 8 devices
    assert len(found) == 8
    assert worst(found) < TOLERANCE


@pytest.mark.slow
def test_so_does_a_network_with_convolutions_and_batch_norm(tmp_path):
    """BatchNorm takes its mean over the whole batch: of a device's own 2 images it would be another network.

    Its sums come together in another order on each number of devices, and so do the gradients of the kernels. In
    float32 that came to 3e-7 at most, of three seeds; the tolerance leaves room for other processors and compilers.
    """
    found = on_1_to_8_devices(tmp_path, "model.name=resnet_cifar", "model.depth=8")
    print(f"worst relative difference: {worst(found):.1e}")
    assert worst(found) < TOLERANCE
