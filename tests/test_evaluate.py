# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.data import load_dataset
from cnnjax.devices import make_mesh
from cnnjax.errors import RunError
from cnnjax.evaluate import evaluated
from cnnjax.experiment import build_evaluate, build_model
from cnnjax.types import TrainState


def evaluation(config, params=None):
    dataset = load_dataset(config.data)
    model = build_model(config, 3)
    split = dataset.splits["train"]
    own, model_state = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    result = build_evaluate(config, model, split, 3, make_mesh())(params or own, model_state)
    return result, model, own, split


def test_each_example_counts_once_whatever_the_batch_size(tiny):
    whole, model, params, split = evaluation(tiny("data.eval_batch_size=96"))
    logits = model.apply(params, {}, jnp.asarray(split.image / np.float32(255)), train=False)[0]["logits"]
    expected = -np.asarray(jax.nn.log_softmax(logits))[np.arange(96), split.label]
    for batch_size in (96, 50, 7, 1, 1000):
        got, *_ = evaluation(tiny(f"data.eval_batch_size={batch_size}"))
        np.testing.assert_allclose(got.values["loss"], expected, rtol=1e-4)
        np.testing.assert_array_equal(got.prediction, whole.prediction)
        np.testing.assert_array_equal(got.label, split.label)
        assert got.probability is not None and len(got.probability) == 96
        assert got.summary()["accuracy"] == np.mean(got.prediction == split.label)


def test_an_output_that_is_not_finite_is_an_error(tiny):
    config = tiny()
    _, _, params, _ = evaluation(config)
    broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), params)
    with pytest.raises(RunError, match="output is not finite for 96 of 96 examples"):
        evaluation(config, broken)


def test_a_network_without_classes_has_no_predictions(tiny):
    config = tiny("model.name=autoencoder", "model.latent=2", "model.widths=(2,)", "task.name=reconstruction")
    got, model, params, split = evaluation(config)
    assert got.prediction is None and got.probability is None
    picture = jnp.asarray(split.image / np.float32(255))
    recon = model.apply(params, {}, picture, train=False)[0]["recon"]
    expected = np.mean(np.square(np.asarray(recon - picture)), axis=(1, 2, 3))
    np.testing.assert_allclose(got.values["mse"], expected, rtol=1e-4)
    assert list(got.summary()) == ["loss", "mse", "psnr", "ssim"]


def test_the_average_is_evaluated_where_one_is_kept():
    state = TrainState(jnp.zeros(()), {"w": 1}, {"s": 2}, (), {})
    assert evaluated(state) == ({"w": 1}, {"s": 2})
    assert evaluated(state._replace(ema_params={"w": 3})) == ({"w": 3}, {"s": 2})
