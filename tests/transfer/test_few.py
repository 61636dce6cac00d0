# SPDX-License-Identifier: Apache-2.0
import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax import devices
from cnnjax.commands import main
from cnnjax.config import load_config
from cnnjax.data import cache, load_dataset
from cnnjax.errors import UsageError
from cnnjax.experiment import build_model
from cnnjax.preprocess import make_prepare
from cnnjax.transfer import features as module
from cnnjax.transfer.features import Backbone, features
from cnnjax.transfer.few import mean_and_deviation, parse_sizes
from cnnjax.types import Batch, Split
from cnnjax.weights.importing import write_run
from cnnjax.workdir import DatasetInfo

SMALL = ["--config.model.name=simple_cnn", "--config.model.widths=(4,)", "--config.model.dense=6"]


@pytest.fixture
def backbone() -> Backbone:
    config = load_config("experiments/default.py", [*SMALL, "--config.data.eval_batch_size=20"])
    model = build_model(config, 10)
    params, state = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    return Backbone(config, model, params, state, 10)


@pytest.mark.parametrize("layer", ["features", "stage1"])
def test_features_are_what_the_layer_says_kept_in_the_cache(backbone: Backbone, layer: str, monkeypatch):
    split = load_dataset(backbone.config.data, ("test",)).splits["test"]
    split = Split(split.image[:47], split.label[:47])  # not a whole number of batches
    found = features(backbone, split, layer, devices.make_mesh())
    prepare = make_prepare(backbone.config.data, backbone.config.augment, 10)[1]
    rows = np.zeros(47, np.int32)
    image = prepare(jax.random.key(0), Batch(image=split.image, label=rows, mask=rows))["image"]  # pyright: ignore[reportArgumentType]
    apply = jax.jit(partial(backbone.model.apply, train=False))
    said = apply(backbone.params, backbone.model_state, image)[0][layer]
    wanted = np.asarray(said) if layer == "features" else np.asarray(said).mean(axis=(1, 2))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(module, "_computed", lambda *_: pytest.fail("computed again"))
    np.testing.assert_array_equal(features(backbone, split, layer, devices.make_mesh()), found)
    other = backbone._replace(params=jax.tree.map(lambda x: x + 1, backbone.params))
    assert cache.load(module._cache_key(other, split, layer)) is None


def test_an_unknown_layer_is_told_with_the_known_ones(backbone: Backbone):
    split = Split(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2, np.int32))
    with pytest.raises(UsageError, match="unknown layer 'feature'; did you mean 'features'"):
        features(backbone, split, "feature", devices.make_mesh())


def test_sizes():
    assert parse_sizes("10, 30,all", "--sizes") == [10, 30, 0]
    for text in ("", "0", "10,10", "ten", "-3"):
        with pytest.raises(UsageError, match="--sizes is"):
            parse_sizes(text, "--sizes")
    assert mean_and_deviation([0.5, 0.7]) == "60.0 ± 14.1%"
    assert mean_and_deviation([0.5]) == "50.0%"


def test_the_command_on_a_run_and_on_weights(tmp_path: Path, backbone: Backbone, capsys: pytest.CaptureFixture[str]):
    run = tmp_path / "run"
    info = DatasetInfo("digits", tuple("0123456789"), (8, 8, 1), {})
    write_run(run, backbone.config, info, backbone.params, backbone.model_state, {})
    command = ["probe", f"--workdir={run}", "--config.data.source=digits", "--train_examples=10,100", "--seeds=2"]
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    accuracy = {(row["train_examples"], row["method"]): row["accuracy"] for row in document["rows"]}
    assert len(accuracy) == 6 and all(len(each) == 2 for each in accuracy.values())
    assert np.mean(accuracy[100, "logistic"]) > 0.25  # six random features of digits: chance is 0.1
    # One picture a class leaves the classifiers nothing to choose by: soon done, and of the same features.
    weights = ["probe", "--config=experiments/default.py", *SMALL, f"--init_from={run}"]
    assert main([*weights, "--train_examples=10", "--seeds=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == [r for r in document["rows"] if r["train_examples"] == 10]
    assert main(["probe", f"--workdir={run}", "--train_examples=10"]) == 0
    assert "logistic" in capsys.readouterr().out
    for wrong in (["probe", f"--workdir={run}", "--train_examples=5"], ["probe", "--config=experiments/default.py"]):
        assert main(wrong) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
