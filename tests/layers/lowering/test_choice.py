# SPDX-License-Identifier: Apache-2.0
"""Every way that can be chosen computes the same; the choice is by shape alone, with and without oneDNN."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.lowering import Geometry, abreast, choice, native, onednn, products, turned, whole, winograd

FLOAT = np.dtype(np.float32)


def geometry(size=56, kernel=3, stride=1, padding=1, groups=1):
    sides = ((padding, padding), (padding, padding))
    return Geometry((size, size), (kernel, kernel), (stride, stride), sides, (1, 1), groups)


@pytest.fixture(params=[True, False], ids=["onednn", "without"])
def library(request, monkeypatch):
    """Whether oneDNN is there."""
    monkeypatch.setattr(onednn, "takes", lambda dtype: request.param and dtype == FLOAT)
    return request.param


def winograds(library, way):
    """Winograd's `way`, as it is chosen, by the faster products."""

    def same(chosen):
        product = onednn.matmul if library else products.matmul
        return isinstance(chosen, partial) and chosen.func is way and chosen.keywords == {"product": product}

    return same


def test_forward_and_input_gradient(library):
    def forward(size, channels, features, batch=8, **options):
        moves = geometry(size, **options)
        return choice.choose_forward((batch, size, size, channels), (3, 3, channels, features), moves, FLOAT)

    def input_gradient(size, channels, features, batch=8, **options):
        moves = geometry(size, **options)
        gradient = (batch, *moves.output, features)
        return choice.choose_input_gradient(gradient, (3, 3, channels, features), moves, FLOAT)

    fast, faster = winograds(library, winograd.forward), winograds(library, winograd.input_gradient)
    plain = onednn.forward if library else native.forward
    gradient = onednn.input_gradient if library else native.canonical_input_gradient
    assert fast(forward(56, 64, 64)) and faster(input_gradient(56, 64, 64))
    assert forward(56, 63, 64) is forward(56, 64, 63) is plain
    assert input_gradient(56, 64, 63) is input_gradient(56, 63, 64) is gradient
    # Small maps need more channels, and all images together enough pixels: 512 and 490.
    assert fast(forward(16, 128, 128)) and forward(16, 127, 128) is plain
    assert fast(forward(16, 512, 512, batch=2)) and forward(7, 512, 512, batch=10) is plain
    # A few features: windows of a row together, as many as divide it.
    assert forward(56, 64, 16) is (plain if library else abreast.forward)
    assert input_gradient(56, 16, 64) is (gradient if library else abreast.input_gradient)
    assert forward(55, 64, 16) is forward(56, 64, 17) is forward(56, 64, 1) is plain
    for other in ({"stride": 2}, {"padding": 3}):  # cannot be mirrored
        assert input_gradient(56, 64, 64, **other) is native.canonical_input_gradient
    double = (8, 56, 56, 64), (3, 3, 64, 64), geometry(), np.dtype(np.float64)
    assert choice.choose_forward(*double) is native.forward
    assert choice.choose_input_gradient(*double) is native.canonical_input_gradient


def test_kernel_gradient(library):
    def chosen(size, channels, features, batch=16, **options):
        moves = geometry(size, **options)
        x, gradient = (batch, size, size, channels), (batch, *moves.output, features)
        way = choice.choose_kernel_gradient(x, gradient, moves, FLOAT)
        if isinstance(way, partial):
            if way.func is turned.kernel_gradient:
                assert way.keywords == {"forward": onednn.forward if library else native.forward}
            else:
                assert way.keywords == {"product": onednn.matmul if library else products.matmul}
            return way.func
        return way

    plain = turned.kernel_gradient if library else native.canonical_kernel_gradient
    assert chosen(56, 64, 64) is chosen(14, 256, 256) is winograd.kernel_gradient
    assert chosen(16, 32, 32) is (winograd.kernel_gradient if library else plain)
    assert chosen(56, 31, 64) is chosen(7, 512, 512, batch=8) is chosen(16, 32, 64, stride=2) is plain
    assert chosen(56, 31, 64, batch=4) is plain
    assert chosen(56, 31, 64, batch=3) is (plain if library else products.by_image)
    assert chosen(56, 64, 256, kernel=1, padding=0) is chosen(56, 16, 32, kernel=1, padding=0) is products.by_tap
    assert chosen(224, 3, 64, kernel=7, stride=2, padding=3) is plain
    assert chosen(16, 32, 15) is turned.kernel_gradient
    assert chosen(16, 16, 16) is chosen(16, 32, 16) is plain
    assert chosen(14, 64, 64, groups=64) is native.kernel_gradient
    apart = geometry()._replace(dilation=(2, 2))
    of = choice.choose_kernel_gradient((16, 56, 56, 64), (16, *apart.output, 64), apart, FLOAT)
    assert of is native.canonical_kernel_gradient


def test_a_kernel_as_large_as_the_map_is_a_product(library):
    moves = geometry(5, kernel=5, padding=0)
    x, kernel, gradient = (129, 5, 5, 16), (5, 5, 16, 120), (129, 1, 1, 120)
    for way, kind in (
        (choice.choose_forward(x, kernel, moves, FLOAT), whole.forward),
        (choice.choose_input_gradient(gradient, kernel, moves, FLOAT), whole.input_gradient),
        (choice.choose_kernel_gradient(x, gradient, moves, FLOAT), whole.kernel_gradient),
    ):
        assert isinstance(way, partial) and way.func is kind
        assert way.keywords == {"product": onednn.matmul if library else products.matmul}
    xlas = {"product": products.matmul}
    few = choice.choose_forward((32, 5, 5, 16), (5, 5, 16, 256), moves, FLOAT)
    assert isinstance(few, partial) and few.keywords == xlas
    for way in (  # a small product of no more than 128 images
        choice.choose_forward((128, *x[1:]), kernel, moves, FLOAT),
        choice.choose_input_gradient((128, *gradient[1:]), kernel, moves, FLOAT),
        choice.choose_kernel_gradient((128, *x[1:]), (128, *gradient[1:]), moves, FLOAT),
    ):
        assert isinstance(way, partial) and way.keywords == xlas
    for other in (geometry(5, kernel=5, padding=1), geometry(5, kernel=5, padding=0, groups=2), geometry(5, 3)):
        assert not whole.takes(other)


def test_little_work_is_left_to_xla_so_that_the_program_can_be_cached(library):
    def ways(images, channels, features, dtype=FLOAT, **options):
        moves, kernel = geometry(14, kernel=5, padding=0, **options), (5, 5, channels, features)
        x, gradient = (images, 14, 14, channels), (images, *moves.output, features)
        return (
            choice.choose_forward(x, kernel, moves, dtype),
            choice.choose_input_gradient(gradient, kernel, moves, dtype),
            choice.choose_kernel_gradient(x, gradient, moves, dtype),
        )

    little = ways(128, 6, 16)
    assert little == (abreast.forward, abreast.input_gradient, native.canonical_kernel_gradient)
    for more in (ways(129, 6, 16), ways(128, 16, 16), ways(128, 6, 17)):
        if library:
            forward, input_gradient, kernel_gradient = more
            assert forward is onednn.forward and input_gradient is onednn.input_gradient
            assert isinstance(kernel_gradient, partial) and kernel_gradient.keywords == {"forward": onednn.forward}


def test_half_precision_would_round_too_much_in_winograds_way(monkeypatch):
    monkeypatch.setattr(onednn, "takes", lambda dtype: True)
    maps, kernel, half = (8, 56, 56, 128), (3, 3, 128, 128), np.dtype(jnp.bfloat16)
    assert choice.choose_forward(maps, kernel, geometry(), half) is onednn.forward
    assert choice.choose_input_gradient(maps, kernel, geometry(), half) is onednn.input_gradient
    way = choice.choose_kernel_gradient(maps, maps, geometry(), half)
    assert isinstance(way, partial) and way.func is turned.kernel_gradient
    assert way.keywords == {"forward": onednn.forward}


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (3, 2), (1, 3)])
def test_every_kernel_gradient_is_the_same(stride, padding):
    moves = geometry(7, stride=stride, padding=padding)
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (6, 7, 7, 3))
    gradient = jax.random.normal(keys[1], (6, *moves.output, 4))
    expected = native.kernel_gradient(x, gradient, moves)
    for way in (
        native.canonical_kernel_gradient,
        partial(products.by_tap, product=products.matmul),
        products.by_image,
    ):
        np.testing.assert_allclose(jax.jit(way, static_argnums=2)(x, gradient, moves), expected, rtol=1e-5, atol=1e-5)
    kernel = jax.random.normal(keys[0], (3, 3, 3, 4))
    expected = native.input_gradient(gradient, kernel, moves)
    found = native.canonical_input_gradient(gradient, kernel, moves)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_images_are_taken_together_only_as_far_as_they_divide(monkeypatch):
    monkeypatch.setattr(products, "_ROWS", 4 * 49)
    moves, x = geometry(7), jnp.ones((6, 7, 7, 2))
    program = jax.make_jaxpr(lambda x, g: products.by_image(x, g, moves))(x, x)
    (scan,) = [eqn for eqn in program.eqns if eqn.primitive.name == "scan"]
    assert scan.params["length"] == 2  # four images fit, three divide six


def test_mirrored_geometry():
    assert geometry(7, padding=0).mirrored() == Geometry((5, 5), (3, 3), (1, 1), ((2, 2), (2, 2)), (1, 1), 1)
    assert geometry(7, stride=2).mirrored() is None and geometry(7, padding=3).mirrored() is None
