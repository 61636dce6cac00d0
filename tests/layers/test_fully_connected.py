# SPDX-License-Identifier: Apache-2.0
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from cnnjax.layers import FullyConnected, max_pool2d


class Head(nn.Module):
    """A network's end as VGG has it, large enough for XLA to make one kernel of all."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(FullyConnected(32)(max_pool2d(x, 2))))


@pytest.mark.optimized
def test_the_pooling_before_and_the_product_are_never_one_kernel():
    x = jnp.ones((8, 8, 8, 64))
    program = jax.jit(Head().apply).lower(Head().init(jax.random.key(0), x), x).compile().as_text() or ""
    kernels = [kernel for kernel in re.split(r"\n(?=%|ENTRY)", program) if not kernel.startswith("ENTRY")]
    pooling, products = ([kernel for kernel in kernels if f" {name}(" in kernel] for name in ("reduce-window", "dot"))
    assert len(pooling) == 1 and len(products) == 2
    assert pooling[0] not in products
