# SPDX-License-Identifier: Apache-2.0
"""What goes out comes back in unchanged, and PyTorch takes it whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import load_config
from cnnjax.errors import UsageError
from cnnjax.models import get_model
from cnnjax.weights import export_safetensors
from cnnjax.weights.convert import check
from cnnjax.weights.fit import fit, load
from cnnjax.weights.read import read_weights

CASES = [
    ("", 32, {"name": "resnet_cifar", "depth": 8, "shortcut": "B"}),
    ("akamaster", 32, {"name": "resnet_cifar", "depth": 8}),
    ("chenyaofo", 32, {"name": "resnet_cifar", "depth": 20, "scan": True}),
    ("native", 32, {"name": "resnet_cifar", "depth": 20, "scan": True}),
    ("", 32, {"name": "lenet5"}),
    ("native", 8, {"name": "mlp", "hidden": (5,)}),
]


def random_network(arguments, size, num_classes=10):
    """(params, model_state), every number random."""
    rest = {key: value for key, value in arguments.items() if key != "name"}
    model = get_model(arguments["name"], rest, num_classes=num_classes)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(x.dtype), shapes)


@pytest.mark.parametrize(("names", "size", "arguments"), CASES)
def test_out_and_in_again_bit_for_bit(tmp_path, names, size, arguments):
    params, model_state = random_network(arguments, size, num_classes=7)
    path = tmp_path / "out.safetensors"
    export_safetensors(path, model_name=arguments["name"], params=params, model_state=model_state, names=names)
    config = load_config("experiments/default.py", [f"--config.model.{k}={v}" for k, v in arguments.items()])
    weights = read_weights(str(path))
    fitted = fit(config, weights, [(size, size, 1), (size, size, 3)])
    check(fitted.rows)
    assert fitted.num_classes == 7 and fitted.image_shape == (size, size, 3)
    back = load(fitted, weights.tensors, jax.random.key(0))
    assert jax.tree.structure(back) == jax.tree.structure((params, model_state))
    jax.tree.map(np.testing.assert_array_equal, back, (params, model_state))


def test_a_second_export_is_the_same_file(tmp_path):
    params, model_state = random_network({"name": "resnet_cifar", "depth": 8}, 32)
    for name in ("a", "b"):
        export_safetensors(tmp_path / name, model_name="resnet_cifar", params=params, model_state=model_state)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_convention_that_the_network_lacks(tmp_path):
    params, model_state = random_network({"name": "lenet5"}, 32)
    with pytest.raises(UsageError, match=r"'torchvision'.*Known: native"):
        export_safetensors(
            tmp_path / "x", model_name="lenet5", params=params, model_state=model_state, names="torchvision"
        )
    key = {"key": jax.random.key(0)}
    with pytest.raises(UsageError, match=r"params\.key .*cannot be kept"):
        export_safetensors(tmp_path / "x", model_name="mine", params=key, model_state={})
    assert not (tmp_path / "x").exists()


def test_torchvision_takes_the_file_whole(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    from safetensors.torch import load_file

    params, model_state = random_network({"name": "resnet", "depth": 18}, 33, num_classes=5)
    path = tmp_path / "resnet18.safetensors"
    export_safetensors(path, model_name="resnet", params=params, model_state=model_state)
    module = torchvision.models.resnet18(num_classes=5)
    module.load_state_dict(load_file(path), strict=True)
    np.testing.assert_array_equal(module.fc.weight.detach().numpy(), params["output"]["kernel"].T)
    var = model_state["batch_stats"]["stage4"]["block2"]["bn1"]["var"]
    np.testing.assert_array_equal(module.layer4[1].bn1.running_var.numpy(), var)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "names", "size", "arguments"),
    [
        ("alexnet", "torchvision", 65, {"name": "alexnet_one_tower"}),
        ("vgg11_bn", "torchvision", 33, {"name": "vgg", "variant": "A", "batch_norm": True}),
        ("vgg11", "timm", 33, {"name": "vgg", "variant": "A"}),
    ],
)
def test_large_networks_are_taken_whole(tmp_path, network, names, size, arguments):
    torchvision, timm = pytest.importorskip("torchvision"), pytest.importorskip("timm")
    from safetensors.torch import load_file

    params, model_state = random_network(arguments, size)
    path = tmp_path / "out.safetensors"
    export_safetensors(path, model_name=arguments["name"], params=params, model_state=model_state, names=names)
    peer = timm.create_model if names == "timm" else torchvision.models.get_model
    peer(network, num_classes=10).load_state_dict(load_file(path), strict=True)
