# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.inspect.summary import summarize
from cnnjax.inspect.trace import trace
from cnnjax.models import get_model
from cnnjax.models.check import check_model

NAMES = ("alexnet", "alexnet_one_tower")
PUBLISHED = get_model("alexnet", {}, num_classes=10)


def abstract(name: str, size: int, **arguments):
    """Parameters and outputs as shapes; nothing is computed."""
    model = get_model(name, arguments, num_classes=1000)
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    params, _ = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)
    outputs, _ = jax.eval_shape(lambda p, x: model.apply(p, {}, x, train=False), params, image)
    return params, outputs


@pytest.mark.parametrize("size", [224, 227])
def test_maps_of_the_paper(size: int):
    params, outputs = abstract("alexnet", size)
    assert {name: value.shape[1:] for name, value in outputs.items()} == {
        "conv1": (55, 55, 96), "norm1": (55, 55, 96), "pool1": (27, 27, 96),
        "conv2": (27, 27, 256), "norm2": (27, 27, 256), "pool2": (13, 13, 256),
        "conv3": (13, 13, 384), "conv4": (13, 13, 384), "conv5": (13, 13, 256), "pool5": (6, 6, 256),
        "fc6": (4096,), "fc7": (4096,), "features": (4096,), "logits": (1000,),
    }  # fmt: skip
    assert {name: layer["kernel"].shape for name, layer in params.items()} == {
        "conv1": (11, 11, 3, 96), "conv2": (5, 5, 48, 256), "conv3": (3, 3, 256, 384), "conv4": (3, 3, 192, 384),
        "conv5": (3, 3, 192, 256), "fc6": (9216, 4096), "fc7": (4096, 4096), "output": (4096, 1000),
    }  # fmt: skip


def test_the_paper_s_number_of_neurons():
    # Section 3.5: 253,440; 186,624; 64,896; 64,896; 43,264; 4096; 4096; 1000. Its first, 253,440, is 55x48x96, a slip.
    _, outputs = abstract("alexnet", 227)
    layers = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "logits")
    neurons = [int(np.prod(outputs[name].shape[1:])) for name in layers]
    assert neurons == [290_400, 186_624, 64_896, 64_896, 43_264, 4_096, 4_096, 1_000]


def test_one_tower_is_torchvisions():
    params, outputs = abstract("alexnet_one_tower", 224)
    assert [params[f"conv{i}"]["kernel"].shape for i in range(1, 6)] == [
        (11, 11, 3, 64), (5, 5, 64, 192), (3, 3, 192, 384), (3, 3, 384, 256), (3, 3, 256, 256),
    ]  # fmt: skip
    assert [outputs[f"pool{i}"].shape[1:] for i in (1, 2, 5)] == [(27, 27, 64), (13, 13, 192), (6, 6, 256)]
    assert not any(name.startswith("norm") for name in outputs)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_fit_any_size(name: str):
    shapes = [jax.tree.map(lambda x: x.shape, abstract(name, size)[0]) for size in (64, 224, 227, 256)]
    assert all(each == shapes[0] for each in shapes)


@pytest.mark.parametrize(("name", "smallest"), [("alexnet", 64), ("alexnet_one_tower", 63)])
def test_the_smallest_input(name: str, smallest: int):
    abstract(name, smallest)
    with pytest.raises(UsageError, match=r"^layer pool5: a 3x3 window needs a map of at least 3x3"):
        abstract(name, smallest - 1)


def test_conv1_sees_every_pixel():
    # At 227 nothing is padded; elsewhere just enough for the last window, never a whole stride.
    for size in (64, 65, 66, 67, 224, 225, 226, 227):
        outputs = abstract("alexnet", size)[1]
        assert outputs["conv1"].shape[1] == -(-(size - 11) // 4) + 1


@jax.jit
def _init(key):
    """Convolutions and biases: XLA drops what nobody reads, here most of the 61 million numbers."""
    params, _ = PUBLISHED.init(key, jnp.zeros((1, 67, 67, 3)))
    convs = {name: layer for name, layer in params.items() if name.startswith("conv")}
    return convs, {name: layer["bias"] for name, layer in params.items()}


def test_initialisation_of_section_5():
    convs, biases = _init(jax.random.key(0, impl="rbg"))
    for layer in convs.values():
        np.testing.assert_allclose(layer["kernel"].std(), 0.01, rtol=0.02)
        assert abs(float(layer["kernel"].mean())) < 3e-4
    ones = {name for name, bias in biases.items() if (np.asarray(bias) == 1).all()}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert all((np.asarray(bias) == 0).all() for name, bias in biases.items() if name not in ones)


def test_groups_do_not_see_each_other():
    @jax.jit
    @jax.jacobian
    def seen(scale):  # [96], of the maps of conv1
        params, _ = PUBLISHED.init(jax.random.key(0, impl="rbg"), jnp.zeros((1, 67, 67, 3)))
        params["conv1"]["kernel"] = params["conv1"]["kernel"] * scale.reshape(1, 1, 1, 96)
        image = jax.random.normal(jax.random.key(1), (1, 67, 67, 3))
        outputs, _ = PUBLISHED.apply(params, {}, image, train=False)
        return outputs["conv2"].sum((0, 1, 2)).reshape(2, 128).sum(1)

    gradient = np.asarray(seen(jnp.ones(96)))
    # Normalisation mixes a map with two on either side, so those at the border of the groups count for both.
    assert gradient[0, :50].all() and not gradient[0, 50:].any()
    assert gradient[1, 46:].all() and not gradient[1, :46].any()


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_of_the_rate_given(name: str):
    image, key = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
    for rate, draws in ((0.0, 0), (0.5, 2)):
        model = get_model(name, {"dropout_rate": rate}, num_classes=10)
        params, _ = jax.eval_shape(model.init, key, image)
        traced = trace(lambda p, x, k, m=model: m.apply(p, {}, x, train=True, key=k)[0], params, image, key)
        assert sum(step.primitive == "random_bits" for step in traced.steps) == draws


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_is_kept(name: str):
    check_model(get_model(name, {}, num_classes=10), (67, 67, 3), 10, name=name)


@pytest.mark.parametrize("name", NAMES)
def test_summary_names_every_layer(name: str):
    summary = summarize(get_model(name, {}, num_classes=1000), (224, 224, 3), name)
    assert [layer.name for layer in summary.layers if layer.type != "flatten"] == [
        "conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7", "output",
    ]  # fmt: skip
