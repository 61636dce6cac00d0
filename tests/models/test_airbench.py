# SPDX-License-Identifier: Apache-2.0
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers import whitening_kernel
from cnnjax.models import get_model
from cnnjax.models.adapter import compute_in

SMALL = {"widths": (8, 6)}


def params_of(**arguments):
    model = get_model("airbench", arguments, num_classes=10)
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))[0]


def test_parameter_count():
    """12 x 24 + 24 whitening, six convolutions without bias, a bias a channel of their BatchNorms, 256 x 10."""
    convs = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 256 * 256 + 256 * 256 + 256 * 256)
    wanted = 312 + convs + 2 * (64 + 256 + 256) + 2_560
    assert sum(x.size for x in jax.tree.leaves(params_of())) == wanted == 1_971_640


def test_against_the_reference_network():
    """The same layers in PyTorch, with the same weights: pooling before BatchNorm, no scale, a ninth of the output."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    model = get_model("airbench", SMALL, num_classes=4)
    images = np.random.default_rng(0).normal(size=(5, 15, 15, 3)).astype(np.float32)
    params, state = jax.jit(model.init)(jax.random.key(1), jnp.asarray(images))
    params = jax.tree.map(lambda p: p + 0.05 * jax.random.normal(jax.random.key(2), p.shape), params)

    def kernel(name, conv):
        return torch.tensor(np.asarray(params[name][conv]["kernel"]).transpose(3, 2, 0, 1))

    def norm(x, name, index):
        bias = torch.tensor(np.asarray(params[name][f"norm{index}"]["bias"]))
        running = torch.zeros(len(bias)), torch.ones(len(bias))
        return functional.gelu(functional.batch_norm(x, *running, bias=bias, training=True, momentum=0.4, eps=1e-12))

    x = torch.tensor(images.transpose(0, 3, 1, 2))
    stem = torch.tensor(np.asarray(params["stem"]["kernel"]).transpose(3, 2, 0, 1))
    x = functional.gelu(functional.conv2d(x, stem, torch.tensor(np.asarray(params["stem"]["bias"]))))
    for name in ("stage1", "stage2"):
        x = norm(functional.max_pool2d(functional.conv2d(x, kernel(name, "conv1"), padding="same"), 2), name, 1)
        x = norm(functional.conv2d(x, kernel(name, "conv2"), padding="same"), name, 2)
    x = functional.max_pool2d(x, 3).flatten(1) @ torch.tensor(np.asarray(params["output"]["kernel"])) / 9
    got = jax.jit(partial(model.apply, train=True))(params, state, jnp.asarray(images))[0]["logits"]
    np.testing.assert_allclose(got, x.numpy(), rtol=1e-3, atol=1e-5)


def test_starts_from_the_data_and_keeps_its_whitening_filters():
    model = get_model("airbench", SMALL, num_classes=4)
    images = jax.random.normal(jax.random.key(0), (16, 12, 12, 3))
    params, state = jax.jit(model.init)(jax.random.key(1), images)
    assert model.init_from_data is not None
    begun, same_state = model.init_from_data(params, state, images)
    np.testing.assert_array_equal(begun["stem"]["kernel"], whitening_kernel(images, 2))
    rest = [{**p, "stem": p["stem"]["bias"]} for p in (params, begun)]
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *rest))) and same_state is state

    def loss(params):
        return model.apply(params, state, images, train=True)[0]["logits"].var()

    grads = jax.jit(jax.grad(loss))(begun)
    assert (
        not grads["stem"]["kernel"].any() and grads["stem"]["bias"].any() and grads["stage1"]["conv1"]["kernel"].any()
    )
    assert compute_in(model, "bfloat16").init_from_data is model.init_from_data


def test_first_filters_pass_their_channel_on():
    def first(width):
        model = get_model("airbench", {"widths": (width,)}, num_classes=4)
        init = jax.jit(lambda key: model.init(key, jnp.zeros((1, 12, 12, 3)))[0]["stage1"]["conv1"]["kernel"])
        return np.asarray(init(jax.random.key(0)))

    wide, narrow = first(30), first(8)
    np.testing.assert_array_equal(wide[1, 1, :, :24], np.eye(24))
    assert wide[..., 24:].all() and np.abs(wide[..., 24:]).max() <= 1 / np.sqrt(9 * 24)
    assert narrow.sum() == 8 and (narrow[1, 1] == np.eye(24, 8)).all()
