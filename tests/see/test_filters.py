# SPDX-License-Identifier: Apache-2.0
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.models import get_model
from cnnjax.models.adapter import from_linen
from cnnjax.models.lenet import C3_TABLE
from cnnjax.see.filters import find_kernels, first_layer, strongest
from cnnjax.types import Model

KEY = jax.random.key(0)


def made(model, shape):
    return jax.jit(model.init)(KEY, jnp.zeros((1, *shape)))


class Backwards(nn.Module):
    """Layers that are named against their order of use."""

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.relu(nn.Conv(4, (3, 3), name="z")(image))
        outputs = {"first": x}
        x = nn.relu(nn.Conv(5, (1, 2), name="a")(x))
        return {"logits": nn.Dense(2, name="m")(x.mean(axis=(1, 2))), "second": x, **outputs}


def test_linen_kernels_in_the_order_of_their_use():
    model = from_linen(Backwards())
    params, state = made(model, (6, 6, 3))
    first, second = find_kernels(model, params, state, (6, 6, 3))
    assert (first.name, first.feeds) == ("z/kernel", ("first",))
    assert (second.name, second.feeds) == ("a/kernel", ("second", "logits"))
    np.testing.assert_array_equal(first.value, params["z"]["kernel"])
    np.testing.assert_array_equal(second.value, params["a"]["kernel"])
    assert first_layer([first, second], 3) is first
    assert first_layer([second], 3) is None


def test_plain_functions_with_kernels_in_another_layout():
    def init(key, image):
        return [jax.random.normal(key, (4, 3, 2, 5)), jax.random.normal(key, (4, 2))], {}

    def apply(params, model_state, image, *, train, key=None):
        layout = ("NHWC", "OIHW", "NHWC")
        x = jax.lax.conv_general_dilated(image, 2 * params[0], (1, 1), "VALID", dimension_numbers=layout)
        return {"maps": x, "logits": x.mean(axis=(1, 2)) @ params[1]}, model_state

    model = Model(init, apply)
    params, state = made(model, (8, 8, 3))
    (kernel,) = find_kernels(model, params, state, (8, 8, 3))
    assert kernel.name == "0"
    assert kernel.value.shape == (2, 5, 3, 4)
    # As the convolution is given it: twice the parameter.
    np.testing.assert_allclose(kernel.value[1, 4, 2, 3], 2 * params[0][3, 2, 1, 4], rtol=1e-6)


def test_a_sparse_kernel_shows_the_connections_that_it_lacks():
    model = get_model("lenet5", {"sparse_c3": True}, num_classes=10)
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, 32, 32, 1)))
    params, state = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), shapes)
    c1, c3, c5 = find_kernels(model, params, state, (32, 32, 1))
    assert [k.name for k in (c1, c3, c5)] == ["c1/kernel", "c3/kernel", "c5/kernel"]
    np.testing.assert_array_equal(c3.value, np.broadcast_to(C3_TABLE, (5, 5, 6, 16)))


def test_scanned_blocks_apart_each_with_its_own_kernel():
    model = get_model("resnet_cifar", {"depth": 20, "scan": True}, num_classes=10)
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, 32, 32, 3)))
    params, state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    run = params["stage1"]["block2-3"]["conv1"]
    run["kernel"] = run["kernel"].at[0].set(2.0).at[1].set(3.0)
    kernels = {kernel.name: kernel.value for kernel in find_kernels(model, params, state, (32, 32, 3))}
    assert len(kernels) == 19
    assert (kernels["stage1/block2/conv1/kernel"] == 2).all()
    assert (kernels["stage1/block3/conv1/kernel"] == 3).all()
    assert kernels["stage1/block3/conv1/kernel"].shape == (3, 3, 16, 16)


def test_without_a_convolution_the_templates_of_the_pixels():
    model = get_model("logistic", {}, num_classes=3)
    params, state = made(model, (4, 5, 1))
    (kernel,) = find_kernels(model, params, state, (4, 5, 1))
    assert kernel.value.shape == (4, 5, 1, 3)
    # Row 2, column 3 of the picture is number 2 * 5 + 3 of the flattened one.
    np.testing.assert_array_equal(kernel.value[2, 3, 0], params["output"]["kernel"][13])


def test_the_strongest_slices():
    kernel = np.zeros((1, 1, 3, 4))
    kernel[0, 0] = [[0, 5, 0, 0], [1, 0, 0, -4], [0, 1, 0, 9]]
    inputs, outputs = strongest(kernel, 2, 2)
    np.testing.assert_array_equal(outputs, [1, 3])
    np.testing.assert_array_equal(inputs, [0, 2])
