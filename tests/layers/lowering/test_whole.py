# SPDX-License-Identifier: Apache-2.0
"""Convolutions with one window against XLA's."""

import jax
import numpy as np
import pytest

from cnnjax.layers.lowering import Geometry, native, onednn, products, whole


@pytest.mark.parametrize("product", [products.matmul, onednn.matmul], ids=["XLA", "oneDNN"])
def test_one_window_against_xla(product):
    if product is onednn.matmul and not onednn.takes(np.dtype(np.float32)):
        pytest.skip("without oneDNN")
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
        found = jax.jit(lambda a, b, way=way: way(a, b, moves, product))(*operands)
        expected = reference(*operands, moves)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_other_convolutions_are_none():
    moves = Geometry((3, 4), (3, 4), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    for change in ({"size": (3, 5)}, {"sides": ((0, 0), (0, 1))}, {"groups": 2}):
        assert not whole.takes(moves._replace(**change))
