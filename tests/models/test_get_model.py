# SPDX-License-Identifier: Apache-2.0
"""Models from outside this repository: plain jnp, Flax NNX and Linen, found by path or by module."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from cnnjax.errors import UsageError
from cnnjax.models import get_model
from cnnjax.training_run import train_run

PLAIN = '''
import jax, jax.numpy as jnp
from cnnjax.types import Model

def net(*, num_classes, width=8):
    """Two dense layers in plain jax.numpy."""
    def init(key, image):
        first, second = jax.random.split(key)
        size = image[0].size
        w1 = jax.random.normal(first, (size, width)) * size**-0.5
        w2 = jax.random.normal(second, (width, num_classes)) * width**-0.5
        return {"w1": w1, "w2": w2}, {}
    def apply(params, model_state, image, *, train, key=None):
        hidden = jnp.tanh(image.reshape(len(image), -1) @ params["w1"])
        return {"hidden": hidden, "logits": hidden @ params["w2"]}, model_state
    return Model(init, apply)
'''

LINEN = """
import flax.linen as nn
from cnnjax.models.adapter import from_linen

class Net(nn.Module):
    num_classes: int
    width: int
    @nn.compact
    def __call__(self, image, *, train):
        x = nn.Conv(self.width, (3, 3))(image)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.Dropout(0.1, deterministic=not train)(x.reshape(len(x), -1))
        return {"logits": nn.Dense(self.num_classes)(x)}

def net(*, num_classes, width=8):
    return from_linen(Net(num_classes, width))
"""

NNX = """
import jax
from flax import nnx
from cnnjax.types import Model

class Net(nnx.Module):
    def __init__(self, shape, num_classes, width, rngs):
        self.conv = nnx.Conv(shape[2], width, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.head = nnx.Linear(shape[0] * shape[1] * width, num_classes, rngs=rngs)
    def __call__(self, image):
        x = nnx.relu(self.norm(self.conv(image)))
        return self.head(x.reshape(len(x), -1))

def net(*, num_classes, width=8):
    def build(key, shape):
        return nnx.split(Net(shape, num_classes, width, nnx.Rngs(params=key)), nnx.Param, ...)
    def init(key, image):
        _, params, rest = build(key, image.shape[1:])
        return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
    def apply(params, model_state, image, *, train, key=None):
        graph, like_params, like_rest = nnx.eval_shape(lambda: build(jax.random.key(0), image.shape[1:]))
        nnx.replace_by_pure_dict(like_params, params)
        nnx.replace_by_pure_dict(like_rest, model_state)
        net = nnx.merge(graph, like_params, like_rest)
        net.train() if train else net.eval()
        logits = net(image)
        return {"logits": logits}, nnx.to_pure_dict(nnx.state(net, nnx.BatchStat))
    return Model(init, apply)
"""


@pytest.mark.parametrize("source", [PLAIN, LINEN, NNX], ids=["jnp", "linen", "nnx"])
def test_an_outsider_trains_from_its_own_file(source: str, tiny, tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(source)
    config = tiny(f"model.name={file}:net", "model.width=16", "train.num_steps=40", "train.eval_every_steps=40",
                  "train.checkpoint_every_steps=40", "optimizer.learning_rate=0.1")  # fmt: skip
    text = train_run(config, str(tmp_path / "run"))
    assert float(text.split("test, last step")[1].split()[2].rstrip("%")) > 60  # three classes


def test_a_model_by_module_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "outside_package.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)
    model = get_model("outside_package:net", {"width": 4}, num_classes=3)
    params, _ = model.init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)))
    assert params["w2"].shape == (4, 3)
    sys.modules.pop("outside_package")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lenet6", {}, "unknown model 'lenet6'; did you mean 'lenet5'"),
        ("nowhere.py:net", {}, "no file .*nowhere.py"),
        ("no_such_module:net", {}, "cannot import 'no_such_module'"),
        ("FILE:nett", {}, "did you mean 'net'"),
        ("FILE:net", {"widht": 3}, "did you mean 'width'"),
        ("FILE:net", {"width": "x"}, "must be int"),
        ("FILE:wrong", {}, "must return a cnnjax.types.Model, not int"),
        ("FILE:needs", {}, "needs a value for config.model.depth"),
        ("lenet5", {"pool": "avg"}, "did you mean 'average'"),
        ("lenet5", {"sparse_c3": 1}, "must be bool"),
    ],
)
def test_a_wrong_name_or_argument_is_one_line(name: str, arguments: dict, message: str, tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(PLAIN + "\ndef wrong():\n    return 3\ndef needs(*, depth):\n    return net(num_classes=depth)\n")
    with pytest.raises(UsageError, match=message) as error:
        get_model(name.replace("FILE", str(file)), arguments, num_classes=3)
    assert "\n" not in str(error.value)


def test_a_file_that_does_not_load(tmp_path: Path):
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(UsageError, match=r"broken.py does not load: ModuleNotFoundError"):
        get_model(f"{tmp_path}/broken.py:net", {}, num_classes=3)
