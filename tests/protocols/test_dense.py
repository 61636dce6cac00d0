# SPDX-License-Identifier: Apache-2.0
"""Dense evaluation against sliding the trained network over the picture, and against slicing its maps."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.layers import Conv, FullyConnected, MaxPool, adaptive_avg_pool2d
from cnnjax.models import get_model
from cnnjax.models.adapter import compute_in, from_linen
from cnnjax.protocols.dense import as_kernel, make_dense


def started(model, shape):
    """Parameters and state at random, biases too."""
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    params, state = jax.eval_shape(model.init, jax.random.key(0), image)
    rng = np.random.default_rng(1)

    def draw(x):
        return rng.normal(0, np.prod(x.shape[:-1]) ** -0.5, x.shape).astype(np.float32)

    return jax.tree.map(draw, params), jax.tree.map(lambda x: np.ones(x.shape, np.float32), state)


@cache
def compiled(model):
    return jax.jit(partial(model.apply, train=False))


def answer(model, params, state, image):
    return compiled(model)(params, state, image)[0]["logits"]


def random(*shape):
    return jnp.asarray(np.random.default_rng(0).random(shape, np.float32))


def test_without_padding_it_is_the_mean_of_the_network_at_every_place():
    model = get_model("lenet5", {"pool": "max"}, num_classes=10)
    params, state = started(model, (32, 32, 1))
    image = random(2, 40, 36, 1)
    places = [image[:, y : y + 32, x : x + 32] for y in (0, 4, 8) for x in (0, 4)]
    slid = [answer(model, params, state, each) for each in places]
    got = answer(make_dense(model, (32, 32, 1)), params, state, image)
    np.testing.assert_allclose(got, np.mean(slid, axis=0), rtol=1e-4, atol=1e-5)


def test_a_dense_network_is_slid_over_the_picture():
    model = get_model("mlp", {"hidden": (5,)}, num_classes=3)
    params, state = started(model, (4, 6, 2))
    image = random(2, 5, 8, 2)
    places = [image[:, y : y + 4, x : x + 6] for y in (0, 1) for x in (0, 1, 2)]
    slid = [answer(model, params, state, each) for each in places]
    got = answer(make_dense(model, (4, 6, 2)), params, state, image)
    np.testing.assert_allclose(got, np.mean(slid, axis=0), rtol=1e-4, atol=1e-6)


def test_with_padding_the_windows_slide_over_the_last_map():
    model = get_model("simple_cnn", {"widths": (4, 6), "dense": 7}, num_classes=3)
    params, state = started(model, (8, 8, 3))
    image = random(2, 12, 8, 3)
    x = image
    for stage in ("stage1", "stage2"):  # the network's maps of the larger picture, by hand
        kernel, bias = params[f"{stage}_conv1"]["kernel"], params[f"{stage}_conv1"]["bias"]
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jnp.maximum(x + bias.reshape(1, 1, 1, -1), 0)
        x = x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max((2, 4))
    scores = []
    for row in range(2):  # a 3x2 map under a 2x2 window
        features = x[:, row : row + 2].reshape(2, -1) @ params["features"]["kernel"]
        features = jnp.maximum(features + params["features"]["bias"][None], 0)
        scores.append(features @ params["output"]["kernel"] + params["output"]["bias"][None])
    dense = make_dense(model, (8, 8, 3))
    got = answer(dense, params, state, image)
    np.testing.assert_allclose(got, np.mean(scores, axis=0), rtol=1e-4, atol=1e-5)
    small = random(2, 8, 8, 3)
    same, plain = (answer(m, params, state, small) for m in (dense, model))
    np.testing.assert_allclose(same, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("side", [2, 3, 5])  # smaller than, as large as and larger than the 3x3 that is read
def test_a_layer_that_averages_its_map_first(side):
    weight = random(9 * 2, 4)
    kernel = as_kernel(weight, (side, side + 1, 2), pool=3)
    x = random(2, side, side + 1, 2)
    plain = adaptive_avg_pool2d(x, 3).reshape(2, -1) @ weight
    np.testing.assert_allclose(jnp.einsum("bhwc,hwcf->bf", x, kernel), plain, rtol=1e-5)


class _Pooled(nn.Module):
    @nn.compact
    def __call__(self, image, *, train):
        x = MaxPool(2)(nn.relu(Conv(4, 3, padding=1)(image)))
        x = nn.relu(FullyConnected(6, pool=3, name="fc")(x))
        return {"logits": nn.Dense(3)(x)}


def test_the_large_networks_fit_larger_pictures():
    for name, options, side in (("vgg", {}, 224), ("alexnet", {}, 227), ("alexnet_one_tower", {}, 224)):
        model = get_model(name, options, num_classes=11)
        image = jax.ShapeDtypeStruct((2, 288, 320, 3), jnp.float32)
        picture = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        params, state = jax.eval_shape(model.init, jax.random.key(0), picture)
        dense = make_dense(model, (side, side, 3))
        outputs = jax.eval_shape(partial(dense.apply, train=False), params, state, image)[0]
        assert outputs["logits"].shape == (2, 11) and outputs["fc6"].ndim == 4, name
    model = from_linen(_Pooled())
    params, state = started(model, (8, 8, 1))
    dense, image = make_dense(compute_in(model, "bfloat16"), (8, 8, 1)), random(2, 8, 8, 1)
    plain = answer(model, params, state, image)
    np.testing.assert_allclose(answer(dense, params, state, image), plain, atol=0.05)


def test_a_network_that_ends_in_global_pooling_is_as_it_stands():
    model = get_model("resnet_cifar", {"depth": 8}, num_classes=3)
    params, state = started(model, (8, 8, 3))
    image = random(1, 12, 12, 3)
    got = answer(make_dense(model, (8, 8, 3)), params, state, image)
    np.testing.assert_array_equal(got, answer(model, params, state, image))


class _OwnReshape(nn.Module):
    @nn.compact
    def __call__(self, image, *, train):
        return {"logits": nn.Dense(3)(image.reshape(image.shape[0], -1))}


def test_a_network_that_flattens_by_itself_is_told():
    model = from_linen(_OwnReshape())
    params, state = started(model, (4, 4, 1))
    with pytest.raises(UsageError, match=r"does not take 6x6 pictures.*layers\.FullyConnected"):
        answer(make_dense(model, (4, 4, 1)), params, state, random(1, 6, 6, 1))
    with pytest.raises(UsageError, match="no score map"):
        model = get_model("autoencoder", {"latent": 2, "widths": (2,)}, num_classes=3)
        params, state = started(model, (8, 8, 1))
        answer(make_dense(model, (8, 8, 1)), params, state, random(1, 8, 8, 1))
