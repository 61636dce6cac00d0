# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.models import MODELS, get_model
from cnnjax.models.lenet import C3_TABLE, POOLS
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
    model = get_model(name, {}, num_classes=3)
    image = jnp.ones((2, 32, 32, 1))
    params, model_state = model.init(jax.random.key(0), image)
    for train in (False, True):
        outputs, new_state = model.apply(params, model_state, image, train=train, key=jax.random.key(1))
        assert outputs["logits"].shape == (2, 3)
        assert jax.tree.structure(new_state) == jax.tree.structure(model_state)


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


def test_the_c3_table_is_the_papers():
    assert C3_TABLE.sum() == 60
    np.testing.assert_array_equal(C3_TABLE.sum(axis=0), [3] * 6 + [4] * 9 + [6])
    # The first six maps see three neighbours in turn, the next six four of them.
    for i in range(6):
        assert set(np.flatnonzero(C3_TABLE[:, i])) == {i, (i + 1) % 6, (i + 2) % 6}
        assert set(np.flatnonzero(C3_TABLE[:, 6 + i])) == {(i + k) % 6 for k in range(4)}


def test_a_sparse_map_sees_only_the_maps_of_its_column():
    model = get_model("lenet5", {"sparse_c3": True}, num_classes=10)
    image = jnp.zeros((1, 32, 32, 1))
    params, _ = model.init(jax.random.key(0), image)

    def c3(s2_bias):
        changed = {**params, "c1": {**params["c1"], "bias": s2_bias}}
        return model.apply(changed, {}, image, train=False)[0]["c3"].sum(axis=(0, 1, 2))

    touched = np.asarray(jax.jacobian(c3)(params["c1"]["bias"])) != 0  # [16,6]
    np.testing.assert_array_equal(touched, C3_TABLE.T == 1)


def test_lenet5_intermediate_shapes_of_figure_2():
    model = get_model("lenet5", {}, num_classes=10)
    image = jnp.zeros((1, 32, 32, 1))
    params, _ = model.init(jax.random.key(0), image)
    outputs, _ = model.apply(params, {}, image, train=False)
    shapes = {name: value.shape[1:] for name, value in outputs.items()}
    assert shapes == {
        "c1": (28, 28, 6), "s2": (14, 14, 6), "c3": (10, 10, 16), "s4": (5, 5, 16), "c5": (1, 1, 120), "f6": (84,),
        "logits": (10,),
    }  # fmt: skip
    bound = 2.4 / 25
    assert bound * 0.9 < float(jnp.abs(params["c1"]["kernel"]).max()) <= bound


def test_dropout_works_in_training_only():
    model = get_model("mlp", {"hidden": (64,), "dropout_rate": 0.5}, num_classes=3)
    image = jnp.ones((2, 4, 4, 1))
    params, _ = model.init(jax.random.key(0), image)

    def logits(train, seed):
        return model.apply(params, {}, image, train=train, key=jax.random.key(seed))[0]["logits"]

    assert not np.array_equal(logits(True, 0), logits(True, 1))
    np.testing.assert_array_equal(logits(False, 0), logits(False, 1))


def test_max_pooling_of_the_lectures():
    pool = POOLS["max"]
    four = jnp.array([[4, 6, 1, 1], [1, 3, 1, 3], [4, 0, 0, 8], [8, 5, 4, 0]], jnp.float32)
    got = pool(four[None, :, :, None], (2, 2), strides=(2, 2))
    np.testing.assert_array_equal(got[0, :, :, 0], [[6, 3], [8, 8]])
    five = jnp.array([[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]], jnp.float32)
    got = pool(five[None, :, :, None], (3, 3), strides=(1, 1))
    np.testing.assert_array_equal(got[0, :, :, 0], [[3, 3, 3], [3, 3, 3], [3, 2, 3]])
