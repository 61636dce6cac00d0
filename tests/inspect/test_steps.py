# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import pytest

from cnnjax.inspect.steps import macs
from cnnjax.inspect.trace import trace
from cnnjax.layers.conv import conv2d


@pytest.mark.parametrize(("stride", "groups", "dilation"), [(1, 1, 1), (2, 1, 1), (1, 4, 1), (1, 1, 2)])
def test_the_gradients_of_a_convolution_have_its_multiply_adds(stride, groups, dilation):
    def loss(x, kernel):
        return jnp.sum(conv2d(x, kernel, stride=stride, padding=1, groups=groups, dilation=dilation) ** 2)

    x, kernel = jnp.ones((2, 9, 7, 8)), jnp.ones((3, 3, 8 // groups, 12))
    maps = jax.eval_shape(
        lambda *args: conv2d(*args, stride=stride, padding=1, groups=groups, dilation=dilation), x, kernel
    )
    once = maps.size * 3 * 3 * 8 // groups
    counts = {
        step.primitive: macs(step) for step in trace(jax.grad(loss, argnums=(0, 1)), x, kernel).steps if macs(step)
    }
    names = "conv_general_dilated", "conv_input_gradient", "conv_kernel_gradient"
    assert counts == dict.fromkeys(names, once)
