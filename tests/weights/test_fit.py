# SPDX-License-Identifier: Apache-2.0
"""A config and a file: the number of classes, the channels, and what is missing."""

import jax
import numpy as np
import pytest

from cnnjax.errors import RunError, UsageError
from cnnjax.experiment import build_model
from cnnjax.weights.convert import check
from cnnjax.weights.fit import fit, load, unscanned
from cnnjax.weights.layout import to_theirs
from cnnjax.weights.names import get_convention, named_leaves, places
from cnnjax.weights.read import Weights


def file_of(config, names, num_classes, image=(8, 8, 3)):
    """Weights under the names of a convention, and the trees they were made of."""
    model = build_model(config, num_classes)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *image), np.float32))
    rng = np.random.default_rng(0)
    trees = jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(x.dtype), shapes)
    leaves = {name: np.asarray(leaf) for name, leaf in named_leaves(*trees).items()}
    found = places(leaves, get_convention(leaves, names))
    tensors = {found[name].name: to_theirs(found[name].layout, leaf) for name, leaf in leaves.items()}
    return Weights(tensors, "here", None, "", "safetensors", ()), trees  # pyright: ignore[reportArgumentType]


def test_the_head_tells_the_number_of_classes_and_the_stem_the_channels(tiny):
    config = tiny("model.name=resnet_cifar", "model.depth=8")
    weights, trees = file_of(config, "akamaster", 5, (8, 8, 1))
    fitted = fit(config, weights, [(8, 8, 3), (8, 8, 1)])
    assert (fitted.names, fitted.num_classes, fitted.image_shape) == ("akamaster", 5, (8, 8, 1))
    jax.tree.map(np.testing.assert_array_equal, load(fitted, weights.tensors, jax.random.key(0)), trees)


def test_so_does_a_network_without_known_names(tiny):
    config = tiny()  # an mlp
    weights, trees = file_of(config, "native", 6)
    fitted = fit(config, weights, [(8, 8, 3)])
    assert (fitted.names, fitted.num_classes) == ("native", 6)
    jax.tree.map(np.testing.assert_array_equal, load(fitted, weights.tensors, jax.random.key(0)), trees)


def test_a_number_of_classes_that_the_config_insists_on(tiny):
    weights, trees = file_of(tiny("model.name=resnet_cifar", "model.depth=8"), "chenyaofo", 5)
    config = tiny("model.name=resnet_cifar", "model.depth=8", "model.num_classes=4")
    fitted = fit(config, weights, [(8, 8, 3)])
    with pytest.raises(RunError, match=r"2 shape differs .*fc\.\w+ \(another number of classes"):
        check(fitted.rows)
    fitted = fit(config, weights, [(8, 8, 3)], allow=["fc.*"])
    check(fitted.rows)
    params, _ = load(fitted, weights.tensors, jax.random.key(0))
    assert params["output"]["kernel"].shape == (64, 4)
    np.testing.assert_array_equal(params["stem_conv"]["kernel"], trees[0]["stem_conv"]["kernel"])
    # What is not from the file starts as the network would: He's initialisation here, variance 2 / 64.
    assert np.std(params["output"]["kernel"]) == pytest.approx((2 / 64) ** 0.5, rel=0.2)


def test_another_depth_is_told(tiny):
    weights, _ = file_of(tiny("model.name=resnet_cifar", "model.depth=14"), "akamaster", 5)
    fitted = fit(tiny("model.name=resnet_cifar", "model.depth=8"), weights, [(8, 8, 3)])
    with pytest.raises(RunError, match=r"30 unexpected of \d+ arrays, the first layer"):
        check(fitted.rows)


def test_a_file_without_a_head(tiny):
    config = tiny("model.name=resnet_cifar", "model.depth=8")
    whole, _ = file_of(config, "chenyaofo", 5)
    headless = whole._replace(tensors={k: v for k, v in whole.tensors.items() if not k.startswith("fc")})
    with pytest.raises(UsageError, match="--labels=FILE"):
        fit(config, headless, [(8, 8, 3)], allow=["fc.*"], names="chenyaofo")
    fitted = fit(config, headless, [(8, 8, 3)], allow=["fc.*"], names="chenyaofo", num_labels=9)
    check(fitted.rows)
    assert fitted.num_classes == 9


def test_the_network_to_compare_computes_in_float32_block_by_block(tiny):
    config = tiny("model.name=resnet_cifar", "model.depth=20", "model.scan=True", "train.dtype=bfloat16")
    weights, _ = file_of(tiny("model.name=resnet_cifar", "model.depth=20"), "akamaster", 5)
    fitted = fit(config, weights, [(8, 8, 3)])
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    assert "block2-3" in jax.eval_shape(fitted.model.init, jax.random.key(0), image)[0]["stage1"]
    apart = unscanned(config, fitted)
    assert "block2" in jax.eval_shape(apart.init, jax.random.key(0), image)[0]["stage1"]
    assert config.model.scan and config.train.dtype == "bfloat16"
