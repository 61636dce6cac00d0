# SPDX-License-Identifier: Apache-2.0
"""Enlarging convolution: the plain one of repeated pixels, in both ways that it is computed, with its gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.layers import EnlargeConv, conv2d, enlarge, enlarge_conv2d, repeat_pixels


def test_repeated_pixels_by_hand():
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    repeated = repeat_pixels(x)[0, :, :, 0]
    np.testing.assert_array_equal(repeated, [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])


@pytest.mark.parametrize("many", [1, 4], ids=["repeated", "small"])
def test_as_the_plain_one_with_its_gradients(many, monkeypatch):
    monkeypatch.setattr(enlarge, "_MANY", many)
    keys = jax.random.split(jax.random.key(0), 4)
    x, kernel = jax.random.normal(keys[0], (2, 3, 4, 5)), jax.random.normal(keys[1], (3, 3, 5, 3))
    bias, gradient = jax.random.normal(keys[2], (3,)), jax.random.normal(keys[3], (2, 6, 8, 3))
    found, pull = jax.vjp(enlarge_conv2d, x, kernel, bias)
    expected, plain_pull = jax.vjp(lambda x, k, b: conv2d(repeat_pixels(x), k, b, padding=1), x, kernel, bias)
    for a, b in zip((found, *pull(gradient)), (expected, *plain_pull(gradient)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(abs(b).max()))


def test_the_layer_names_itself_in_an_error():
    layer = EnlargeConv(2)
    params: Any = layer.init(jax.random.key(0), jnp.ones((1, 2, 2, 3)))
    assert jax.tree.map(jnp.shape, params) == {"params": {"kernel": (3, 3, 3, 2), "bias": (2,)}}
    out: Any = layer.apply(params, jnp.ones((1, 2, 2, 3)))
    assert out.shape == (1, 4, 4, 2)
    with pytest.raises(UsageError, match="the kernel sees 3 x 1 channels"):
        enlarge_conv2d(jnp.ones((1, 2, 2, 4)), params["params"]["kernel"])
