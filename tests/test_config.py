# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from cnnjax.config import ADDED, CONFIG_FILE, difference, flatten, load_config, load_run_config
from cnnjax.errors import RunError, UsageError

DEFAULT = "experiments/default.py"


def load(*overrides: str):
    return load_config(DEFAULT, [f"--config.{o}" for o in overrides])


def test_overrides_take_the_type_of_their_key():
    config = load(
        "data.batch_size=64",
        "optimizer.learning_rate=1",
        "data.image_size=28,20",
        "optimizer.nesterov",
        "data.dir=/some/folder",
        "data.labels=('3','8')",
    )
    assert config.data.batch_size == 64
    assert config.optimizer.learning_rate == 1.0 and isinstance(config.optimizer.learning_rate, float)
    assert config.data.image_size == (28, 20)
    assert config.optimizer.nesterov is True
    assert config.data.dir == "/some/folder"
    assert config.data.labels == ("3", "8")
    assert config.is_locked


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.batchsize=3", "did you mean 'config.data.batch_size'"),
        ("optimiser.name=sgd", "did you mean 'config.optimizer.name'"),
        ("data=3", "unknown key 'config.data'"),
        ("data.batch_size=abc", "'abc' is not of type int"),
        ("data.batch_size=1.5", "'1.5' is not of type int"),
        ("data.batch_size", "write --config.data.batch_size=VALUE"),
        ("data.batch_size=0", "config.data.batch_size = 0 is out of range: it must be 1 or more"),
        ("optimizer.learning_rate=-1", "above 0"),
        ("optimizer.learning_rate=nan", "above 0"),
        ("train.dtype=float16", "one of float32, bfloat16"),
        ("data.image_size=32", "(height, width)"),
        ("train.ema_decay=1.0", "below 1"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override: str, message: str):
    with pytest.raises(UsageError) as error:
        load(override)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_unit_given_last_replaces_the_other():
    config = load("train.num_steps=7")
    assert (config.train.num_steps, config.train.num_epochs) == (7, None)
    with pytest.raises(UsageError, match="both are set"):
        load("train.num_steps=7", "train.num_epochs=2")


def test_model_arguments_are_free_and_a_new_model_drops_the_old_ones(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from experiments import default\n"
        "def get_config():\n"
        "    c = default.get_config()\n"
        "    c.model = {'name': 'lenet5', 'sparse_c3': True}\n"
        "    c.train.num_epochs = None\n"
        "    c.train.num_steps = 3\n"
        "    return c\n"
    )
    config = load_config(str(file), ["--config.model.pool=max"])
    assert config.model.to_dict() == {"name": "lenet5", "sparse_c3": True, "pool": "max"}
    config = load_config(str(file), ["--config.model.name=mlp", "--config.model.hidden=(3,4)"])
    assert config.model.to_dict() == {"name": "mlp", "hidden": (3, 4)}
    # None set by a file does not lose the key's type.
    assert load_config(str(file), ["--config.train.num_epochs=2"]).train.num_epochs == 2.0


def test_a_config_file_that_does_not_load_is_one_line_with_its_place(tmp_path: Path):
    for text, line, kind in (
        ("def get_config(:\n", 1, "SyntaxError"),
        ("def get_config():\n    return nothing\n", 2, "NameError"),
        ("from experiments import default\ndef get_config():\n    c = default.get_config()\n    c.sed = 1\n", 4, "sed"),
    ):
        file = tmp_path / "broken.py"
        file.write_text(text)
        with pytest.raises(UsageError) as error:
            load_config(str(file))
        assert f"broken.py:{line}" in str(error.value) and kind in str(error.value)
        assert "\n" not in str(error.value)


def test_missing_files_and_variants():
    with pytest.raises(UsageError, match=r"did you mean experiments/lenet5_digits\.py"):
        load_config("experiments/lenet_digits.py")
    with pytest.raises(UsageError, match="no config given"):
        load_config(None)
    with pytest.raises(UsageError, match="no variant 'nonsense'"):
        load_config("experiments/logistic_digits.py:nonsense")
    assert load_config("experiments/logistic_digits.py:one_neuron").model.one_neuron is True


def test_a_run_config_comes_back_equal_and_takes_typed_overrides(tmp_path: Path):
    config = load("train.num_steps=5", "data.mean=(0.1,0.2,0.3)")
    (tmp_path / CONFIG_FILE).write_text(config.to_json())
    assert difference(config, load_run_config(tmp_path)) == []
    changed = load_run_config(tmp_path, ["--config.data.dir=/elsewhere", "--config.train.num_epochs=2"])
    assert difference(config, changed) == [
        ("data.dir", None, "/elsewhere"),
        ("train.num_epochs", None, 2.0),
        ("train.num_steps", 5, None),
    ]


def test_the_config_of_an_older_run_lacks_newer_keys(tmp_path: Path):
    config = load()
    older = json.loads(config.to_json())
    for key in ADDED:
        section, _, name = key.rpartition(".")
        del (older[section] if section else older)[name]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(older))
    assert difference(config, load_run_config(tmp_path)) == []


def test_a_folder_without_a_run_and_a_damaged_config(tmp_path: Path):
    with pytest.raises(RunError, match="holds no run"):
        load_run_config(tmp_path)
    (tmp_path / CONFIG_FILE).write_text("{")
    with pytest.raises(RunError, match="cannot read"):
        load_run_config(tmp_path)


def test_the_schema_is_json():
    assert json.loads(load().to_json())["data"]["batch_size"] == 128
    assert "data.synthetic.image_shape" in flatten(load())
