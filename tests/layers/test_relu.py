# SPDX-License-Identifier: Apache-2.0
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers import conv2d, relu_of_sum


def test_it_is_the_relu_with_its_derivatives():
    x = jnp.array([-jnp.inf, -2.0, -0.0, 0.0, 1e-30, 3.0, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(relu_of_sum(x), jax.nn.relu(x))
    along = jnp.arange(1.0, 9.0)
    for derivative in (jax.jvp, lambda f, x, t: (jax.vjp(f, *x)[1](*t),)):
        found, wanted = (derivative(function, (x,), (along,)) for function in (relu_of_sum, jax.nn.relu))
        jax.tree.map(np.testing.assert_array_equal, found, wanted)
    low = jax.grad(lambda x: relu_of_sum(x).sum())(jnp.array([-1.0, 2.0], jnp.bfloat16))
    assert low.dtype == jnp.bfloat16 and low.tolist() == [0, 1]


@pytest.mark.optimized
def test_what_is_summed_is_read_once_however_many_blocks_follow():
    """Of four sums one behind the other, each loop reads what it adds and the sum before, not all that was added."""

    def blocks(x, kernel):
        for _ in range(4):
            x = relu_of_sum(conv2d(x, kernel, padding=1) + x)
        return x

    x, kernel = jnp.ones((8, 16, 16, 8)), jnp.ones((3, 3, 8, 8))
    text = jax.jit(blocks).lower(x, kernel).compile().as_text() or ""
    loops = re.findall(r"= f32\[8,16,16,8\]\S* fusion\(([^)]*)\), kind=kLoop", text)
    assert len(loops) == 4 and all(len(re.findall("%", operands)) == 2 for operands in loops), loops
