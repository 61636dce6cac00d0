# SPDX-License-Identifier: Apache-2.0
"""The kernel gradient as one forward convolution: for any window that it says it takes, as XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.lowering import Geometry, native, onednn, turned

# size, kernel, stride, padding (top, bottom), (left, right), dilation, (images, channels, features)
SHAPES = {
    "3x3": ((6, 7), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), (5, 3, 4)),
    "strided": ((9, 8), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), (2, 4, 17)),
    "pixels left out below and to the right": ((9, 8), (2, 1), (3, 3), ((0, 0), (0, 0)), (1, 1), (3, 2, 1)),
    "unlike along the two axes": ((5, 11), (4, 2), (2, 1), ((3, 0), (0, 2)), (1, 1), (1, 1, 6)),
    "rows apart": ((9, 6), (3, 2), (1, 2), ((2, 2), (0, 1)), (2, 1), (16, 5, 3)),
    "the whole map": ((4, 4), (4, 4), (1, 1), ((0, 0), (0, 0)), (1, 1), (7, 16, 16)),
    "few features": ((6, 7), (3, 2), (1, 1), ((1, 0), (0, 1)), (1, 1), (5, 9, 2)),
    "few features, strided": ((6, 7), (3, 2), (2, 1), ((1, 0), (0, 1)), (1, 1), (5, 9, 2)),
    "a row of prime height": ((7, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), (33, 8, 2)),
}


@pytest.fixture(autouse=True)
def _asked_anew():
    """Another test of this process may have been told that it is not there."""
    onednn._works.cache_clear()


@pytest.mark.parametrize(
    ("forward", "dtype"),
    [(onednn.forward, jnp.float32), (onednn.forward, jnp.bfloat16), (native.forward, jnp.float32)],
    ids=["oneDNN", "oneDNN, half", "XLA"],
)
@pytest.mark.parametrize("name", SHAPES)
def test_as_the_native_one(name, forward, dtype):
    if forward is onednn.forward and not onednn.takes(np.dtype(dtype)):
        pytest.skip("this jaxlib carries no oneDNN")
    size, kernel, stride, sides, dilation, (images, channels, features) = SHAPES[name]
    geometry = Geometry(size, kernel, stride, sides, dilation, 1)
    assert turned.takes(geometry)
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (images, *size, channels), dtype)
    gradient = jax.random.normal(keys[1], (images, *geometry.output, features), dtype)
    found = jax.jit(turned.kernel_gradient, static_argnums=(2, 3))(x, gradient, geometry, forward)
    assert found.dtype == dtype
    expected = native.kernel_gradient(x.astype(jnp.float32), gradient.astype(jnp.float32), geometry)
    close = 1e-5 if dtype == jnp.float32 else 2e-2
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=close, atol=close * float(abs(expected).max()))


def test_what_it_does_not_take():
    geometry = Geometry((8, 8), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    assert turned.takes(geometry)
    assert not turned.takes(geometry._replace(groups=2))
    assert not turned.takes(geometry._replace(dilation=(1, 2)))
    beside = Geometry(
        (1, 6), (1, 4), (4, 2), ((2, 1), (3, 1)), (1, 1), 1
    )  # its only row of windows lies on the padding
    assert beside.output[0] == 1 and not turned.takes(beside)
