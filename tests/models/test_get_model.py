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

OUTSIDERS = sorted((Path(__file__).parents[2] / "docs/outsiders").glob("*.py"))
PLAIN = (Path(__file__).parents[2] / "docs/outsiders/plain_jnp.py").read_text()


@pytest.mark.parametrize("file", OUTSIDERS, ids=lambda file: file.stem)
def test_an_outsider_trains_from_its_own_file(file: Path, tiny, tmp_path: Path):
    config = tiny(f"model.name={file}:net", "model.width=12", "train.num_steps=40", "train.eval_every_steps=40",
                  "train.checkpoint_every_steps=40", "optimizer.learning_rate=0.1")  # fmt: skip
    text = train_run(config, str(tmp_path / "run"))
    assert float(text.split("test, last step")[1].split()[2].rstrip("%")) > 60  # three classes


def test_the_readme_shows_the_tested_outsider():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    body = PLAIN.split('"""\n\n', 1)[1]
    assert f"```python\n{body}```" in readme


def test_a_model_by_module_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "outside_package.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)
    model = get_model("outside_package:net", {"width": 4}, num_classes=3)
    params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 2, 1)))
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
