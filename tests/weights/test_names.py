# SPDX-License-Identifier: Apache-2.0
"""Names elsewhere, against those that torchvision, timm and the CIFAR repositories have."""

import jax
import jax.numpy as jnp
import pytest

from cnnjax.errors import UsageError
from cnnjax.layers.scan import unstack
from cnnjax.models import get_model
from cnnjax.weights.layout import Layout
from cnnjax.weights.names import conventions, get_convention, named_leaves, places, recognise, with_leaves


def leaves_of(name, size=32, **arguments):
    model = get_model(name, arguments, num_classes=10)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    trees = jax.eval_shape(model.init, jax.random.key(0), image)
    return named_leaves(*(jax.eval_shape(unstack, tree) for tree in trees))


def names(leaves, convention):
    return {place.name for place in places(leaves, get_convention(leaves, convention)).values()}


def test_resnet_as_torchvision_calls_it():
    leaves = leaves_of("resnet", depth=18)
    found = places(leaves, get_convention(leaves, "torchvision"))
    assert len(found) == 102  # of torchvision's 122 less 20 counts of batches
    assert found["params.stem_conv.kernel"] == ("conv1.weight", Layout("conv"))
    assert found["params.stem_bn.scale"].name == "bn1.weight"
    assert found["params.stage2.block1.shortcut_conv.kernel"].name == "layer2.0.downsample.0.weight"
    assert found["model_state.batch_stats.stage4.block2.bn2.var"].name == "layer4.1.bn2.running_var"
    assert found["params.output.kernel"] == ("fc.weight", Layout("dense"))
    assert list(conventions(leaves)) == ["torchvision", "timm", "chenyaofo", "akamaster", "native"]


def test_scanned_blocks_have_the_names_of_ordinary_ones():
    apart, looped = leaves_of("resnet_cifar", depth=20), leaves_of("resnet_cifar", depth=20, scan=True)
    assert names(apart, "akamaster") == names(looped, "akamaster")
    assert "layer3.2.conv2.weight" in names(looped, "akamaster")


def test_cifar_resnet_as_its_repositories_call_it():
    leaves = leaves_of("resnet_cifar", depth=8, shortcut="B")
    assert {"linear.weight", "linear.bias", "layer2.0.shortcut.0.weight"} <= names(leaves, "akamaster")
    assert {"layer2.0.shortcut.1.running_mean"} <= names(leaves, "akamaster")
    assert {"fc.weight", "layer3.0.downsample.1.bias"} <= names(leaves, "chenyaofo")


def test_vgg_counts_the_layers_between():
    # torchvision.models.vgg16: convolutions at these places of `features`; with BatchNorm at those.
    plain = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    normed = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
    for batch_norm, expected in ((False, plain), (True, normed)):
        leaves = leaves_of("vgg", variant="D", batch_norm=batch_norm)
        found = places(leaves, get_convention(leaves, "torchvision"))
        convs = [p.name for n, p in found.items() if n.endswith("kernel") and p.layout.kind == "conv"]
        assert convs == [f"features.{i}.weight" for i in expected]
    assert {"features.41.running_var", "classifier.0.weight", "classifier.3.bias"} <= names(leaves, "torchvision")


def test_vgg_elsewhere_has_convolutions_for_its_first_dense_layers():
    leaves = leaves_of("vgg", variant="A")
    found = places(leaves, get_convention(leaves, "timm"))
    assert found["params.fc6.kernel"] == ("pre_logits.fc1.weight", Layout("window", 7))
    assert found["params.fc7.kernel"] == ("pre_logits.fc2.weight", Layout("window", 1))
    assert found["params.output.bias"].name == "head.fc.bias"


def test_alexnet():
    leaves = leaves_of("alexnet_one_tower", size=96)
    found = places(leaves, get_convention(leaves, "torchvision"))
    assert [p.name for n, p in found.items() if n.endswith("kernel")] == [
        *(f"features.{i}.weight" for i in (0, 3, 6, 8, 10)),
        *(f"classifier.{i}.weight" for i in (1, 4, 6)),
    ]
    assert found["params.fc6.kernel"].layout == Layout("flatten", 6)
    with pytest.raises(UsageError, match=r"'timm'.*Known: .*native"):
        get_convention(leaves, "timm")


def test_any_network_has_native_names():
    leaves = leaves_of("simple_cnn")
    assert list(conventions(leaves)) == ["native"]
    assert "params.stage1_conv1.kernel" in names(leaves, "native")


def test_trees_of_any_kind_come_back():
    params = {"layers": [{"w": 1.0}, {"w": 2.0}], "scale": (3.0,)}
    leaves = named_leaves(params, {"count": 4})
    assert leaves == {
        "params.layers.0.w": 1.0, "params.layers.1.w": 2.0, "params.scale.0": 3.0, "model_state.count": 4
    }  # fmt: skip
    assert with_leaves(params, "params", {**leaves, "params.scale.0": 5.0})["scale"] == (5.0,)
    with pytest.raises(UsageError, match=r"two arrays .* params\.a\.b"):
        named_leaves({"a": {"b": 1}, "a.b": 2}, {})


def test_the_convention_is_told_by_the_names_in_the_file():
    leaves = leaves_of("resnet_cifar", depth=8, shortcut="B")
    for convention in ("torchvision", "akamaster", "native"):
        assert recognise(leaves, names(leaves, convention)) == convention
    vgg = leaves_of("vgg", variant="A")
    assert recognise(vgg, names(vgg, "timm") - {"features.0.weight"}) == "timm"
    with pytest.raises(UsageError, match=r"no tensor in the file .*encoder\.weight.*fc\.bias"):
        recognise(leaves, ["encoder.weight"])
