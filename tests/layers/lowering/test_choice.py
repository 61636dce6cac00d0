# SPDX-License-Identifier: Apache-2.0
"""Every way that can be chosen computes the same; the choice is by shape alone, with and without oneDNN."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.lowering import Geometry, abreast, choice, native, onednn, products, whole, winograd

FLOAT: np.dtype = np.dtype(np.float32)
HALF: np.dtype = np.dtype(jnp.bfloat16)


def geometry(size=56, kernel=3, stride=1, padding=1, groups=1):
    sides = ((padding, padding), (padding, padding))
    return Geometry((size, size), (kernel, kernel), (stride, stride), sides, (1, 1), groups)


@pytest.fixture(params=[True, False], ids=["onednn", "without"])
def library(request, monkeypatch):
    """Whether oneDNN is there."""
    monkeypatch.setattr(onednn, "takes", lambda dtype: request.param and dtype in (FLOAT, HALF))
    return request.param


def forward(size, channels, features, batch=8, dtype: np.dtype = FLOAT, kernel=3, way=choice.choose_forward, **options):
    moves = geometry(size, kernel, **options)
    shapes = (batch, size, size, channels), (kernel, kernel, channels // moves.groups, features)
    return way(*shapes, moves, dtype)


trained_forward = partial(forward, way=choice.choose_trained_forward)


def input_gradient(size, channels, features, batch=8, dtype: np.dtype = FLOAT, kernel=3, **options):
    moves = geometry(size, kernel, **options)
    shapes = (batch, *moves.output, features), (kernel, kernel, channels // moves.groups, features)
    return choice.choose_input_gradient(*shapes, moves, dtype)


def kernel_gradient(size, channels, features, batch=16, dtype: np.dtype = FLOAT, kernel=3, **options):
    moves = geometry(size, kernel, **options)
    return choice.choose_kernel_gradient((batch, size, size, channels), (batch, *moves.output, features), moves, dtype)


def test_deep_convolutions_are_winograds(library):
    for way in (forward, trained_forward):
        assert way(56, 64, 64) is winograd.forward
        # Small maps need more channels, and all images together enough pixels: 512 and 490.
        assert way(16, 128, 128) is way(16, 512, 512, batch=2) is winograd.forward
        for other in (way(56, 63, 64), way(56, 64, 63), way(16, 127, 128), way(7, 512, 512, batch=10)):
            assert other is not winograd.forward
    assert input_gradient(56, 64, 64) is winograd.input_gradient
    assert input_gradient(56, 64, 63) is input_gradient(56, 63, 64) is native.canonical_input_gradient
    assert kernel_gradient(56, 64, 64) is kernel_gradient(16, 32, 32) is winograd.kernel_gradient
    assert kernel_gradient(16, 31, 32) is kernel_gradient(7, 512, 512, batch=8) is native.canonical_kernel_gradient


def test_what_is_trained_in_float32_is_xlas_so_that_the_step_can_be_cached(library):
    plain = onednn.forward if library else native.forward
    assert forward(56, 63, 64) is forward(56, 64, 63) is forward(56, 63, 64, stride=2) is plain
    assert trained_forward(56, 63, 64) is trained_forward(56, 64, 63) is native.forward
    # A few features: windows of a row together, as many as divide it.
    assert forward(56, 64, 16) is (onednn.forward if library else abreast.forward)
    assert trained_forward(56, 64, 16) is abreast.forward and input_gradient(56, 16, 64) is abreast.input_gradient
    for way in (trained_forward(55, 64, 16), trained_forward(56, 64, 17), trained_forward(56, 64, 1)):
        assert way is native.forward
    unlike = input_gradient(56, 64, 64, stride=2), input_gradient(56, 64, 64, padding=3)  # cannot be mirrored
    assert unlike == (native.canonical_input_gradient,) * 2


def test_groups_and_half_precision_are_onednns_as_xla_is_slow_there(library):
    cases: list[dict[str, Any]] = [{"groups": 2}, {"dtype": HALF}]
    for options in cases:
        expected = (
            (onednn.forward, onednn.input_gradient) if library else (native.forward, native.canonical_input_gradient)
        )
        assert (trained_forward(56, 128, 128, **options), input_gradient(56, 128, 128, **options)) == expected
        assert forward(56, 128, 128, **options) is expected[0]
        assert not library or forward(14, 4, 4, **options) is onednn.forward
    assert kernel_gradient(14, 64, 64, groups=64) is native.kernel_gradient
    assert kernel_gradient(56, 128, 128, dtype=HALF) is native.canonical_kernel_gradient  # Winograd's rounds too much
    double = np.dtype(np.float64)
    assert forward(56, 64, 64, dtype=double) is native.forward
    assert input_gradient(56, 64, 64, dtype=double) is native.canonical_input_gradient


def test_little_work_is_left_to_xla(library):
    little: dict[str, Any] = {"size": 14, "kernel": 5, "padding": 0, "features": 16}
    assert forward(**little, batch=128, channels=6) is abreast.forward
    if library:
        assert forward(**little, batch=129, channels=6) is onednn.forward
        assert forward(**little, batch=128, channels=16) is onednn.forward
        wider: dict[str, Any] = little | {"features": 17}
        assert forward(**wider, batch=128, channels=6) is onednn.forward


def test_kernel_gradients_as_products():
    assert kernel_gradient(56, 64, 256, kernel=1, padding=0, stride=2) is products.by_pixel
    assert kernel_gradient(56, 16, 32, kernel=1, padding=0) is products.by_pixel
    assert kernel_gradient(8, 64, 128, kernel=2) is kernel_gradient(16, 16, 15) is products.by_shift
    for kernel in (2, 3):
        assert kernel_gradient(16, 32, 4, kernel=kernel, stride=2) is native.canonical_kernel_gradient
    assert kernel_gradient(16, 16, 16) is kernel_gradient(16, 15, 15) is native.canonical_kernel_gradient
    assert kernel_gradient(16, 17, 16) is native.canonical_kernel_gradient
    assert kernel_gradient(224, 3, 64, kernel=7, stride=2, padding=3) is native.canonical_kernel_gradient
    assert kernel_gradient(56, 31, 64, batch=4) is native.canonical_kernel_gradient
    assert kernel_gradient(56, 31, 64, batch=3) is products.by_image


def test_a_kernel_as_large_as_the_map_is_a_product(library):
    window: dict[str, Any] = {"size": 5, "channels": 16, "features": 120, "kernel": 5, "padding": 0}
    assert forward(**window) is trained_forward(**window) is whole.forward
    assert input_gradient(**window) is whole.input_gradient and kernel_gradient(**window) is whole.kernel_gradient
    for other in (geometry(5, kernel=5, padding=1), geometry(5, kernel=5, padding=0, groups=2), geometry(5, 3)):
        assert not whole.takes(other)


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (3, 2), (1, 3)])
def test_every_kernel_gradient_is_the_same(stride, padding):
    moves = geometry(7, stride=stride, padding=padding)
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (6, 7, 7, 3))
    gradient = jax.random.normal(keys[1], (6, *moves.output, 4))
    expected = native.kernel_gradient(x, gradient, moves)
    shifted = (products.by_shift,) if stride == 1 else ()
    for way in (native.canonical_kernel_gradient, products.by_image, *shifted):
        np.testing.assert_allclose(jax.jit(way, static_argnums=2)(x, gradient, moves), expected, rtol=1e-5, atol=1e-5)
    kernel = jax.random.normal(keys[0], (3, 3, 3, 4))
    expected = native.input_gradient(gradient, kernel, moves)
    found = native.canonical_input_gradient(gradient, kernel, moves)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels", "features"), [(2, 5), (5, 2)])
def test_one_tap_and_taps_apart(channels, features):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (3, 6, 5, channels))
    one = Geometry((6, 5), (1, 1), (2, 1), ((1, 0), (0, 2)), (1, 1), 1)
    apart = Geometry((6, 5), (2, 3), (1, 1), ((2, 0), (1, 3)), (3, 2), 1)
    for way, moves in ((products.by_pixel, one), (products.by_shift, apart)):
        gradient = jax.random.normal(keys[1], (3, *moves.output, features))
        expected = native.kernel_gradient(x, gradient, moves)
        np.testing.assert_allclose(way(x, gradient, moves), expected, rtol=1e-5, atol=1e-5)


def test_images_are_taken_together_only_as_far_as_they_divide(monkeypatch):
    monkeypatch.setattr(products, "_ROWS", 4 * 49)
    moves, x = geometry(7), jnp.ones((6, 7, 7, 2))
    program = jax.make_jaxpr(lambda x, g: products.by_image(x, g, moves))(x, x)
    (scan,) = [eqn for eqn in program.eqns if eqn.primitive.name == "scan"]
    assert scan.params["length"] == 2  # four images fit, three divide six


def test_mirrored_geometry():
    assert geometry(7, padding=0).mirrored() == Geometry((5, 5), (3, 3), (1, 1), ((2, 2), (2, 2)), (1, 1), 1)
    assert geometry(7, stride=2).mirrored() is None and geometry(7, padding=3).mirrored() is None
