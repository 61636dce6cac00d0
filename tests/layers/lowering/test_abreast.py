# SPDX-License-Identifier: Apache-2.0
"""Windows taken together give what each gives alone."""

import jax
import numpy as np
import pytest

from cnnjax.layers.lowering import Geometry, abreast, native

# size, kernel, stride, padding (top, bottom), (left, right), dilation, (images, channels, features), windows
SHAPES = {
    "LeNet's first": ((9, 12), (5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), (3, 1, 6), 4),
    "strided": ((9, 16), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), (2, 3, 16), 2),
    "pixels left out to the right": ((4, 10), (2, 1), (1, 3), ((0, 0), (0, 0)), (1, 1), (3, 2, 5), 4),
    "padding on one side": ((5, 7), (3, 2), (1, 1), ((1, 0), (3, 0)), (1, 1), (1, 4, 10), 3),
    "rows apart": ((7, 6), (3, 3), (1, 1), ((2, 2), (1, 1)), (2, 1), (2, 3, 9), 3),
}


@pytest.mark.parametrize("name", SHAPES)
def test_as_the_native_one(name):
    size, kernel_size, stride, sides, dilation, (images, channels, features), windows = SHAPES[name]
    geometry = Geometry(size, kernel_size, stride, sides, dilation, 1)
    assert abreast.takes(geometry, features) and abreast._together(geometry, features) == windows
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (images, *size, channels))
    kernel = jax.random.normal(keys[1], (*kernel_size, channels, features))
    found = jax.jit(abreast.forward, static_argnums=2)(x, kernel, geometry)
    np.testing.assert_allclose(found, native.forward(x, kernel, geometry), rtol=1e-5, atol=1e-5)


def test_the_input_gradient():
    geometry = Geometry((6, 8), (3, 3), (1, 1), ((1, 1), (0, 2)), (1, 1), 1)
    keys = jax.random.split(jax.random.key(0))
    kernel = jax.random.normal(keys[0], (3, 3, 5, 7))
    gradient = jax.random.normal(keys[1], (2, 6, 8, 7))
    found = jax.jit(abreast.input_gradient, static_argnums=2)(gradient, kernel, geometry)
    expected = native.input_gradient(gradient, kernel, geometry)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_what_it_does_not_take():
    geometry = Geometry((8, 8), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    assert abreast.takes(geometry, 16) and abreast.takes(geometry, 2)
    for features in (1, 17):  # XLA has a way of its own for one; two of 17 would not fit
        assert not abreast.takes(geometry, features)
    assert not abreast.takes(geometry._replace(size=(8, 7)), 8)  # of a row of seven
    assert not abreast.takes(geometry._replace(groups=2), 8)
    assert not abreast.takes(geometry._replace(dilation=(1, 2)), 8)
