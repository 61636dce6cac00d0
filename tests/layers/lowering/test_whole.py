# SPDX-License-Identifier: Apache-2.0
"""Convolutions with one window against XLA's."""

import jax
import numpy as np
import pytest

from cnnjax.layers import conv2d, max_pool2d
from cnnjax.layers.lowering import Geometry, native, whole


def test_one_window_against_xla():
    moves = Geometry((3, 4), (3, 4), (2, 1), ((0, 0), (0, 0)), (1, 1), 1)
    assert whole.takes(moves) and moves.output == (1, 1)
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = jax.random.normal(keys[0], (5, 3, 4, 6)), jax.random.normal(keys[1], (3, 4, 6, 7))
    gradient = jax.random.normal(keys[2], (5, 1, 1, 7))
    for way, reference, operands in (
        (whole.forward, native.forward, (x, kernel)),
        (whole.input_gradient, native.input_gradient, (gradient, kernel)),
        (whole.kernel_gradient, native.kernel_gradient, (x, gradient)),
    ):
        found = jax.jit(lambda a, b, way=way: way(a, b, moves))(*operands)
        expected = reference(*operands, moves)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_other_convolutions_are_none():
    moves = Geometry((3, 4), (3, 4), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    for change in ({"size": (3, 5)}, {"sides": ((0, 0), (0, 1))}, {"groups": 2}):
        assert not whole.takes(moves._replace(**change))


@pytest.mark.optimized
def test_a_pooling_before_it_is_no_part_of_the_product():
    """XLA's CPU compiler would join them to one slow kernel."""
    x, kernel = jax.ShapeDtypeStruct((64, 6, 6, 8), "float32"), jax.ShapeDtypeStruct((3, 3, 8, 32), "float32")
    program = jax.jit(lambda x, kernel: conv2d(max_pool2d(x, 2), kernel)).lower(x, kernel).compile().as_text()
    assert program is not None
    kernels = program.split("\n\n")
    pooling, products = ([kernel for kernel in kernels if f" {name}(" in kernel] for name in ("reduce-window", "dot"))
    assert len(pooling) == len(products) == 1 and pooling != products
