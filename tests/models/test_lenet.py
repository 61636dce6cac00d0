# SPDX-License-Identifier: Apache-2.0
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.inspect.summary import summarize
from cnnjax.models import get_model
from cnnjax.models.check import check_model
from cnnjax.models.digit_codes import DIGIT_CODES
from cnnjax.models.lenet import C3_TABLE, scaled_tanh
from cnnjax.types import Array, Model

PAPER = {"sparse_c3": True, "pool": "trainable", "head": "rbf"}


def network(arguments: dict) -> tuple[Model, dict]:
    """With random parameters of no meaning, which are made faster than the paper's."""
    model, rng = get_model("lenet5", arguments, num_classes=10), np.random.default_rng(0)
    params, _ = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1))))
    return model, jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape), x.dtype), params)


def run(model: Model, params: dict, image: Array):
    return jax.jit(partial(model.apply, train=False))(params, {}, image)


def random_image(*shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(1).normal(0, 1, shape), jnp.float32)


def shapes(arguments: dict, *image_shape: int) -> dict[str, tuple[int, ...]]:
    """Of the outputs; nothing is computed."""
    model = get_model("lenet5", arguments, num_classes=10)
    image = jax.ShapeDtypeStruct(image_shape, jnp.float32)
    params, _ = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)
    outputs, _ = jax.eval_shape(lambda p, x: model.apply(p, {}, x, train=False), params, image)
    return {name: value.shape for name, value in outputs.items()}


def test_the_paper_has_60000_parameters():
    summary = summarize(get_model("lenet5", PAPER, num_classes=10), (32, 32, 1), "lenet5")
    assert summary.params == 60_000
    params = {layer.name: layer.params for layer in summary.layers if layer.params}
    assert params == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}


@pytest.mark.parametrize("arguments", [{}, PAPER], ids=["default", "paper"])
def test_intermediate_shapes_of_figure_2(arguments: dict):
    assert shapes(arguments, 2, 32, 32, 1) == {
        "c1": (2, 28, 28, 6), "s2": (2, 14, 14, 6), "c3": (2, 10, 10, 16), "s4": (2, 5, 5, 16), "c5": (2, 1, 1, 120),
        "f6": (2, 84), "logits": (2, 10),
    }  # fmt: skip


def test_weights_start_within_2_4_by_fan_in():
    model = get_model("lenet5", PAPER, num_classes=10)
    params, _ = jax.jit(model.init)(jax.random.key(0, impl="rbg"), jnp.zeros((1, 32, 32, 1)))
    fan_in = {"c1": 25, "s2": 4, "s4": 4, "c5": 400, "f6": 120}
    for name, fan in fan_in.items():
        weight = jnp.abs(params[name]["coefficient" if name[0] == "s" else "kernel"])
        assert 2.4 / fan * 0.6 < float(weight.max()) <= 2.4 / fan, name
    for column, fan in ((0, 75), (6, 100), (15, 150)):  # C3 maps that see 3, 4 and 6 maps
        weight = jnp.abs(params["c3"]["kernel"][:, :, np.nonzero(C3_TABLE)[1] == column])
        assert 2.4 / fan * 0.9 < float(weight.max()) <= 2.4 / fan
    assert all(not layer["bias"].any() for layer in params.values())


def test_scaled_tanh_of_appendix_a():
    np.testing.assert_allclose(scaled_tanh(jnp.array([-1.0, 0.0, 1.0])), [-1, 0, 1], atol=1e-4)


def test_the_c3_table_is_the_papers():
    assert C3_TABLE.sum() == 60
    np.testing.assert_array_equal(C3_TABLE.sum(axis=0), [3] * 6 + [4] * 9 + [6])
    # The first six maps see three neighbours in turn, the next six four of them.
    for i in range(6):
        assert set(np.flatnonzero(C3_TABLE[:, i])) == {i, (i + 1) % 6, (i + 2) % 6}
        assert set(np.flatnonzero(C3_TABLE[:, 6 + i])) == {(i + k) % 6 for k in range(4)}


def test_a_sparse_map_sees_only_the_maps_of_its_column():
    model, params = network({"sparse_c3": True})
    image = jnp.zeros((1, 32, 32, 1))

    def c3(c1_bias):
        changed = {**params, "c1": {**params["c1"], "bias": c1_bias}}
        return model.apply(changed, {}, image, train=False)[0]["c3"].sum(axis=(0, 1, 2))

    touched = np.asarray(jax.jit(jax.jacobian(c3))(params["c1"]["bias"])) != 0  # [16,6]
    np.testing.assert_array_equal(touched, C3_TABLE.T == 1)


def test_trainable_subsampling_by_hand():
    model, params = network({"pool": "trainable"})
    params["s2"] = {"coefficient": jnp.full(6, 0.25), "bias": jnp.full(6, 0.5)}
    outputs = run(model, params, random_image(1, 32, 32, 1))[0]
    four = np.asarray(outputs["c1"]).reshape(14, 2, 14, 2, 6).sum((1, 3))
    want = 1.7159 * np.tanh(2 / 3 * (0.25 * four + 0.5))
    np.testing.assert_allclose(outputs["s2"][0], want, rtol=1e-5, atol=1e-6)


def test_pools_by_name():
    image = random_image(1, 32, 32, 1)
    for pool, reduce in (("average", np.mean), ("max", np.max)):
        model, params = network({"pool": pool})
        outputs, _ = run(model, params, image)
        four = np.asarray(outputs["c1"]).reshape(14, 2, 14, 2, 6)
        np.testing.assert_allclose(outputs["s2"][0], reduce(four, axis=(1, 3)), rtol=1e-5, atol=1e-6)


def test_the_digit_codes_are_ten_different_pictures_of_7_by_12():
    assert DIGIT_CODES.shape == (10, 84) and set(np.unique(DIGIT_CODES)) == {-1, 1}
    seven = DIGIT_CODES[7].reshape(12, 7)
    np.testing.assert_array_equal(seven[0], np.ones(7))  # its bar
    np.testing.assert_array_equal(seven[2], [-1, -1, -1, -1, -1, 1, 1])
    apart = (DIGIT_CODES[:, None] != DIGIT_CODES[None]).sum(-1)
    assert apart[~np.eye(10, dtype=bool)].min() >= 10  # pixels in which two digits differ


def test_rbf_logits_are_minus_the_squared_distances():
    model, params = network({"head": "rbf"})
    assert "output" not in params
    image = random_image(2, 32, 32, 1)
    outputs, _ = run(model, params, image)
    f6 = np.asarray(outputs["f6"], np.float64)
    want = [[-sum((f6[b, j] - DIGIT_CODES[k, j]) ** 2 for j in range(84)) for k in range(10)] for b in range(2)]
    np.testing.assert_allclose(outputs["logits"], want, rtol=1e-5)


def test_cross_entropy_of_the_rbf_head_is_equation_9():
    distances = np.array([3.0, 1.0, 4.0])
    loss = -jax.nn.log_softmax(jnp.asarray(-distances, jnp.float32))[1]
    np.testing.assert_allclose(loss, 1.0 + np.log(np.exp(-distances).sum()), rtol=1e-6)


def test_a_larger_input_has_the_same_parameters_and_averages_c5():
    model, params = network({})
    image = random_image(1, 36, 44, 1)
    outputs, _ = run(model, params, image)
    assert outputs["c5"].shape == (1, 2, 4, 120)
    # Each position of C5 is what the network gives for the 32x32 window there, 4 pixels apart.
    window, _ = run(model, params, image[:, 4:36, 8:40])
    np.testing.assert_allclose(outputs["c5"][:, 1, 2], window["c5"][:, 0, 0], rtol=1e-4, atol=1e-6)
    mean = np.asarray(outputs["c5"]).mean((1, 2))
    want = scaled_tanh(mean @ params["f6"]["kernel"] + params["f6"]["bias"].reshape(1, -1))
    np.testing.assert_allclose(outputs["f6"], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("size", "layer"), [(31, "c5"), (12, "c3"), (4, "c1")])
@pytest.mark.parametrize("sparse", [False, True])
def test_an_input_too_small_is_told_by_its_layer(size: int, layer: str, sparse: bool):
    with pytest.raises(UsageError, match=f"^layer {layer}: a 5x5 window needs a map of at least 5x5"):
        shapes({"sparse_c3": sparse}, 1, size, size, 1)


@pytest.mark.parametrize(
    ("arguments", "num_classes", "message"),
    [
        ({"head": "rbf"}, 3, "config.model.head = 'rbf' has codes for ten digits, not for 3 classes"),
        ({"head": "svm"}, 10, "unknown value of config.model.head: 'svm'"),
        ({"pool": "sum"}, 10, "unknown value of config.model.pool: 'sum'"),
        ({"activation": "tahn"}, 10, "did you mean 'tanh'"),
    ],
)
def test_wrong_arguments(arguments: dict, num_classes: int, message: str):
    with pytest.raises(UsageError, match=message):
        get_model("lenet5", arguments, num_classes=num_classes)


@pytest.mark.parametrize("arguments", [{}, PAPER], ids=["default", "paper"])
def test_the_contract_is_kept(arguments: dict):
    check_model(get_model("lenet5", arguments, num_classes=10), (32, 32, 1), 10, name="lenet5")
