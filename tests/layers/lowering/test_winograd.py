# SPDX-License-Identifier: Apache-2.0
"""Winograd's convolution and its gradients: the native ones, but for rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers import conv2d
from cnnjax.layers.lowering import Geometry, native, winograd

# size, padding (top, bottom), (left, right), (images, channels, features)
SHAPES = {
    "tiles that fit": ((8, 8), ((1, 1), (1, 1)), (2, 5, 7)),
    "rows and columns left over": ((9, 7), ((0, 0), (0, 0)), (6, 2, 4)),
    "unlike along the two axes": ((5, 6), ((2, 1), (0, 2)), (1, 3, 3)),
    "one window": ((3, 3), ((0, 0), (0, 0)), (2, 3, 1)),
    "full": ((11, 4), ((2, 2), (2, 2)), (2, 1, 1)),
    "windows on the padding alone": ((4, 4), ((5, 3), (1, 1)), (2, 2, 2)),
}


def moves(size, sides=((1, 1), (1, 1))):
    return Geometry(size, (3, 3), (1, 1), sides, (1, 1), 1)


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * float(abs(expected).max()))


@pytest.mark.parametrize("together", [winograd._TOGETHER, 100], ids=["at once", "in parts"])
@pytest.mark.parametrize("name", SHAPES)
def test_as_the_native_ones(name, together, monkeypatch):
    monkeypatch.setattr(winograd, "_TOGETHER", together)
    size, sides, (images, channels, features) = SHAPES[name]
    geometry = moves(size, sides)
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (images, *size, channels))
    kernel = jax.random.normal(keys[1], (3, 3, channels, features))
    gradient = jax.random.normal(keys[2], (images, *geometry.output, features))
    compiled = jax.jit(lambda way, *operands: way(*operands, geometry), static_argnums=0)
    assert_close(compiled(winograd.forward, x, kernel), native.forward(x, kernel, geometry))
    found = compiled(winograd.kernel_gradient, x, gradient)
    assert_close(found, native.kernel_gradient(x, gradient, geometry))
    if geometry.mirrored():
        found = compiled(winograd.input_gradient, gradient, kernel)
        assert_close(found, native.input_gradient(gradient, kernel, geometry))


def test_images_are_divided_evenly(monkeypatch):
    maps = jnp.zeros((16, 56, 56, 64))  # ResNet's first: 200,704 numbers an image
    assert winograd._parts(maps, 64, moves((56, 56))) == 2
    monkeypatch.setattr(winograd, "_TOGETHER", 4 * 64 * 3)
    assert winograd._parts(jnp.ones((6, 8, 8, 3)), 2, moves((8, 8))) == 2  # four would fit, three divide six
    assert winograd._parts(jnp.ones((6, 8, 8, 3)), 24, moves((8, 8))) == 6  # not even one does
    assert winograd._parts(jnp.ones((4, 8, 8, 3)), 3, moves((8, 8))) == 1


def test_of_deep_maps_the_program_and_its_derivatives_are_made_so():
    keys = jax.random.split(jax.random.key(1))
    x = jax.random.normal(keys[0], (8, 8, 8, 128))
    kernel = jax.random.normal(keys[1], (3, 3, 128, 128)) / 34

    def energy(x, kernel):
        return (conv2d(x, kernel, padding=1) ** 2).sum()

    def expected(x, kernel):
        return (native.forward(x, kernel, moves((8, 8))) ** 2).sum()

    step = jax.jit(jax.grad(energy, (0, 1))).lower(x, kernel)
    assert step.as_text().count("dot_general") == 3 * 6 and "stablehlo.convolution" not in step.as_text()
    assert "__onednn" not in step.as_text()  # so it can be written to the compilation cache
    for found, wanted in zip(step.compile()(x, kernel), jax.grad(expected, (0, 1))(x, kernel), strict=True):
        assert_close(found, wanted)
    along = jax.jit(lambda f, *a: jax.jvp(jax.grad(f, (0, 1)), a, a), static_argnums=0)
    for found, wanted in zip(
        jax.tree.leaves(along(energy, x, kernel)), jax.tree.leaves(along(expected, x, kernel)), strict=True
    ):
        assert_close(found, wanted)


def test_what_it_does_not_take(monkeypatch):
    geometry = moves((8, 8))
    assert winograd.takes(geometry)
    for other in (
        {"groups": 2},
        {"stride": (1, 2)},
        {"dilation": (2, 1)},
        {"kernel_size": (3, 1)},
        {"kernel_size": (1, 3)},
    ):
        assert not winograd.takes(geometry._replace(**other))
    monkeypatch.setenv("CNNJAX_WINOGRAD", "0")
    assert not winograd.takes(geometry)
