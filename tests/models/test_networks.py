# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.layers import max_pool2d
from cnnjax.models import MODELS, get_model
from cnnjax.types import Model


def count(model: Model, *shape: int) -> int:
    params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "parameters"),
    [
        ("logistic", {}, (28, 28, 1), 7_850),
        ("mlp", {}, (28, 28, 1), 952_410),  # 628,000 + 320,400 + 4,010
        ("lenet5", {}, (32, 32, 1), 61_706),
        ("lenet5", {"sparse_c3": True}, (32, 32, 1), 156 + 1_516 + 48_120 + 10_164 + 850),
        ("simple_cnn", {}, (32, 32, 3), 896 + 18_496 + 73_856 + (2_048 + 1) * 256 + 2_570),
    ],
)
def test_published_parameter_counts(name, arguments, shape, parameters):
    assert count(get_model(name, arguments, num_classes=10), *shape) == parameters


@pytest.mark.parametrize("name", list(MODELS))
def test_the_same_return_shape_always(name):
    model, side = get_model(name, {}, num_classes=3), 64 if name.startswith("alexnet") else 32
    image, key = jax.ShapeDtypeStruct((2, side, side, 1), jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
    params, model_state = jax.eval_shape(model.init, key, image)
    for train in (False, True):
        outputs, new_state = jax.eval_shape(
            functools.partial(model.apply, train=train), params, model_state, image, key=key
        )
        if name == "autoencoder":
            assert outputs["recon"].shape == image.shape
        else:
            assert outputs["logits"].shape == (2, 3)
        assert jax.tree.map(jnp.shape, new_state) == jax.tree.map(jnp.shape, model_state)


def test_one_neuron_is_the_lectures_logistic_regression():
    model = get_model("logistic", {"one_neuron": True}, num_classes=2)
    image = jax.random.normal(jax.random.key(0), (4, 2, 2, 1))
    weight = jnp.array([0.5, -1.0, 2.0, 0.25])
    logits = model.apply({"output": {"kernel": weight[:, None]}}, {}, image, train=False)[0]["logits"]
    z = np.asarray(image).reshape(4, 4) @ np.asarray(weight)  # <w, x>
    np.testing.assert_allclose(jax.nn.softmax(logits)[:, 1], 1 / (1 + np.exp(-z)), rtol=1e-5)
    for y, label in ((1, 1), (-1, 0)):
        loss = -jax.nn.log_softmax(logits)[:, label]
        np.testing.assert_allclose(loss, np.log1p(np.exp(-y * z)), rtol=1e-5)
    with pytest.raises(UsageError, match=r"two classes apart, not 10; set config\.data\.labels"):
        get_model("logistic", {"one_neuron": True}, num_classes=10)


def test_dropout_works_in_training_only():
    model = get_model("mlp", {"hidden": (64,), "dropout_rate": 0.5}, num_classes=3)
    image = jnp.ones((2, 4, 4, 1))
    params, _ = jax.jit(model.init)(jax.random.key(0), image)

    @functools.partial(jax.jit, static_argnums=0)
    def logits(train, seed):
        return model.apply(params, {}, image, train=train, key=jax.random.key(seed))[0]["logits"]

    assert not np.array_equal(logits(True, 0), logits(True, 1))
    np.testing.assert_array_equal(logits(False, 0), logits(False, 1))


def test_max_pooling_of_the_lectures():
    four = jnp.array([[4, 6, 1, 1], [1, 3, 1, 3], [4, 0, 0, 8], [8, 5, 4, 0]], jnp.float32)
    got = max_pool2d(four[None, :, :, None], 2)
    np.testing.assert_array_equal(got[0, :, :, 0], [[6, 3], [8, 8]])
    five = jnp.array([[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]], jnp.float32)
    got = max_pool2d(five[None, :, :, None], 3, 1)
    np.testing.assert_array_equal(got[0, :, :, 0], [[3, 3, 3], [3, 3, 3], [3, 2, 3]])
