# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from typing import Any

import pytest

from cnnjax.config import difference, load_config
from cnnjax.errors import RunError, UsageError

DEFAULT = load_config("experiments/default.py", ["--config.model.name=vgg", "--config.model.widths=(8,(4,2))"])


def written(tmp_path: Path, change: Any = None) -> str:
    document = json.loads(DEFAULT.to_json())
    if change:
        change(document)
    (tmp_path / "config.json").write_text(json.dumps(document))
    return str(tmp_path / "config.json")


def test_a_config_as_json_is_the_same_config(tmp_path: Path):
    assert difference(DEFAULT, load_config(written(tmp_path))) == []
    config = load_config(written(tmp_path), ["--config.data.batch_size=7", "--config.train.num_steps=3"])
    assert (config.data.batch_size, config.train.num_steps, config.train.num_epochs) == (7, 3, None)
    assert config.model.widths == (8, (4, 2))


def test_a_whole_number_stands_for_a_fraction(tmp_path: Path):
    config = load_config(written(tmp_path, lambda c: c["optimizer"].update(learning_rate=1)))
    assert isinstance(config.optimizer.learning_rate, float)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("seed"), r"config\.seed is missing"),
        (lambda c: c["data"].pop("source"), r"config\.data\.source is missing"),
        (lambda c: c.update(data=3), r"config\.data is 3, not a section"),
        (lambda c: c["data"].update(batch_size="8"), r"config\.data\.batch_size is '8', not int"),
        (lambda c: c["data"].update(batch_size=True), "not int"),
        (lambda c: c["data"].update(mean=[[0]]), r"config\.data\.mean is \(\(0,\),\), not tuple"),
        (lambda c: c["optimizer"].update(nesterov=1), "not bool"),
        (lambda c: c["data"].update(batchsize=8), "did you mean 'data.batch_size'"),
        (lambda c: c.update({"a.b": 1}), "'a.b' is no name of a key"),
        (lambda c: c.update(model={}), r"config\.model\.name is missing"),
        (lambda c: c.update(seed=None), r"config\.seed is None, not int"),
    ],
)
def test_anything_else_is_one_line(tmp_path: Path, change: Any, words: str):
    with pytest.raises(RunError, match=words) as caught:
        load_config(written(tmp_path, change))
    assert "config.json holds no config" in str(caught.value)


def test_values_are_checked_and_the_file_must_be_there(tmp_path: Path):
    with pytest.raises(UsageError, match="out of range"):
        load_config(written(tmp_path, lambda c: c["data"].update(image_size=[100_000, 100_000])))
    with pytest.raises(UsageError, match=r"no config file .*gone\.json"):
        load_config(str(tmp_path / "gone.json"))
