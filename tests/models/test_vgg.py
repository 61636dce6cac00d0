# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.inspect.summary import summarize
from cnnjax.models import get_model
from cnnjax.models.check import check_model
from cnnjax.models.vgg import ALIASES, CONFIGURATIONS, vgg


def abstract(size: int, **arguments):
    """Parameters, model_state and outputs as shapes; nothing is computed."""
    model = vgg(num_classes=1000, **arguments)
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    params, state = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)
    outputs, _ = jax.eval_shape(lambda p, s, x: model.apply(p, s, x, train=False), params, state, image)
    return params, state, outputs


# Table 1 as it is printed: "conv3-64" is a 3x3 convolution with 64 filters.
TABLE_1 = {
    "A": "3-64 / 3-128 / 3-256 3-256 / 3-512 3-512 / 3-512 3-512",
    "A-LRN": "3-64 / 3-128 / 3-256 3-256 / 3-512 3-512 / 3-512 3-512",
    "B": "3-64 3-64 / 3-128 3-128 / 3-256 3-256 / 3-512 3-512 / 3-512 3-512",
    "C": "3-64 3-64 / 3-128 3-128 / 3-256 3-256 1-256 / 3-512 3-512 1-512 / 3-512 3-512 1-512",
    "D": "3-64 3-64 / 3-128 3-128 / 3-256 3-256 3-256 / 3-512 3-512 3-512 / 3-512 3-512 3-512",
    "E": "3-64 3-64 / 3-128 3-128 / 3-256 3-256 3-256 3-256 / 3-512 3-512 3-512 3-512 / 3-512 3-512 3-512 3-512",
}


@pytest.mark.parametrize("variant", CONFIGURATIONS)
def test_the_columns_of_table_1(variant: str):
    params, _, outputs = abstract(224, variant=variant)
    found = {
        name: (*layer["kernel"].shape[:2], layer["kernel"].shape[3]) for name, layer in params.items() if "conv" in name
    }
    wanted = {}
    for stage, column in enumerate(TABLE_1[variant].split(" / "), start=1):
        for i, layer in enumerate(column.split(), start=1):
            side, filters = map(int, layer.split("-"))
            wanted[f"conv{stage}_{i}"] = (side, side, filters)
            assert outputs[f"conv{stage}_{i}"].shape[1:] == (448 >> stage, 448 >> stage, filters)
        assert outputs[f"pool{stage}"].shape[1:3] == (224 >> stage, 224 >> stage)
    assert found == wanted
    assert ("norm1" in outputs) == (variant == "A-LRN")
    assert [outputs[name].shape for name in ("fc6", "fc7", "features", "logits")] == [(2, 4096)] * 3 + [(2, 1000)]


@pytest.mark.parametrize(("alias", "variant"), ALIASES.items())
def test_aliases_count_the_weight_layers(alias: str, variant: str):
    params = abstract(32, variant=alias)[0]
    assert len(params) == int(alias)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, abstract(32, variant=variant)[0])


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("11", 132_868_840), ("13", 133_053_736), ("16", 138_365_992), ("19", 143_678_248)],
)
def test_batch_norm_has_torchvisions_number_of_parameters(variant: str, parameters: int):
    params, state, _ = abstract(32, variant=variant, batch_norm=True)
    assert sum(x.size for x in jax.tree.leaves(params)) == parameters
    names = {name.replace("conv", "bn") for name in params if name.startswith("conv")}
    assert set(state["batch_stats"]) == names and names <= set(params)


def test_parameters_fit_any_size_from_32_on():
    shapes = [jax.tree.map(jnp.shape, abstract(size, variant="A")[0]) for size in (32, 33, 224, 240)]
    assert all(each == shapes[0] for each in shapes)
    with pytest.raises(UsageError, match=r"^layer pool5: a 2x2 window needs a map of at least 2x2"):
        abstract(31, variant="A")


def test_initialisation_by_glorot_and_bengio():
    model = vgg(num_classes=10, variant="A")

    @jax.jit  # the dense layers, of which only the biases are read, are dropped
    def init(key):
        params, _ = model.init(key, jnp.zeros((1, 32, 32, 3)))
        convs = {name: params[name]["kernel"] for name in ("conv1_1", "conv3_2", "conv4_1")}
        return convs, [layer["bias"] for layer in params.values()]

    kernels, biases = init(jax.random.key(0, impl="rbg"))
    for name, fans in {"conv1_1": 9 * (3 + 64), "conv3_2": 9 * (256 + 256), "conv4_1": 9 * (256 + 512)}.items():
        bound = (6 / fans) ** 0.5
        largest = float(jnp.abs(kernels[name]).max())
        assert 0.99 * bound < largest < 1.0001 * bound, name
        np.testing.assert_allclose(kernels[name].std(), bound / 3**0.5, rtol=0.03)
    assert not any(bias.any() for bias in biases)


@pytest.mark.parametrize(
    ("variant", "message"),
    [("a", "did you mean 'A'"), ("F", "unknown value of config.model.variant: 'F'"), ("15", "did you mean '1")],
)
def test_an_unknown_variant(variant: str, message: str):
    with pytest.raises(UsageError, match=message):
        get_model("vgg", {"variant": variant}, num_classes=10)


@pytest.mark.parametrize("arguments", [{}, {"variant": "A-LRN"}, {"variant": "C", "batch_norm": True}], ids=str)
def test_the_contract_is_kept(arguments: dict):
    check_model(get_model("vgg", arguments, num_classes=10), (32, 32, 3), 10, name="vgg")


def test_summary_names_every_layer():
    summary = summarize(vgg(num_classes=1000, variant="A", batch_norm=True), (224, 224, 3), "vgg")
    assert [layer.name for layer in summary.layers if layer.type != "flatten"] == [
        "conv1_1", "bn1_1", "pool1", "conv2_1", "bn2_1", "pool2", "conv3_1", "bn3_1", "conv3_2", "bn3_2", "pool3",
        "conv4_1", "bn4_1", "conv4_2", "bn4_2", "pool4", "conv5_1", "bn5_1", "conv5_2", "bn5_2", "pool5",
        "fc6", "fc7", "output",
    ]  # fmt: skip
