# SPDX-License-Identifier: Apache-2.0
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.layers import col2im, conv2d, conv2d_im2col, im2col


def test_the_lectures_example():
    """A 2x2 image of two channels under two 2x2 filters: one row, one product, two gradients."""
    x = jnp.array([0.5, 0.5, 0.5, 1, 0, 0, 1, 0])
    matrix = jnp.array([[-1, 1], [1, 0], [1, 1], [1, -2], [-1, -1], [-1, 0], [1, 0], [-1, -2.0]])
    image, kernel = x.reshape(1, 2, 2, 2), matrix.reshape(2, 2, 2, 2)
    np.testing.assert_array_equal(im2col(image, 2).ravel(), x)
    out, pull = jax.vjp(conv2d_im2col, image, kernel)
    assert out.ravel().tolist() == [2.5, -1]
    image_gradient, kernel_gradient = pull(jnp.array([1, -0.5]).reshape(1, 1, 1, 2))
    assert image_gradient.ravel().tolist() == [-1.5, 1, 0.5, 2, -0.5, -1, 1, 0]
    np.testing.assert_array_equal(kernel_gradient.reshape(8, 2), np.outer(x, [1, -0.5]))


def test_rows_are_windows_in_reading_order_with_channels_together():
    image = jnp.arange(2 * 3 * 2).reshape(1, 2, 3, 2)  # pixel (y, x) holds 6y + 2x and the next number
    rows = im2col(image, 2)
    assert rows.shape == (1, 1, 2, 8)
    assert rows[0, 0].tolist() == [[0, 1, 2, 3, 6, 7, 8, 9], [2, 3, 4, 5, 8, 9, 10, 11]]


def test_col2im_counts_how_often_each_pixel_is_seen():
    seen = col2im(jnp.ones((1, 2, 2, 4)), (3, 3), 2)
    assert seen[0, :, :, 0].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    padded = col2im(jnp.ones((1, 4, 4, 4)), (3, 3), 2, padding=1)
    assert padded[0, :, :, 0].tolist() == [[4, 4, 4]] * 3
    strided = col2im(jnp.ones((1, 1, 2, 1)), (2, 4), 1, stride=2)
    assert strided[0, :, :, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]


def test_col2im_is_the_transpose_of_im2col():
    options = {"stride": (1, 2), "padding": ((0, 2), (1, 0)), "dilation": (2, 1)}
    x = jax.random.normal(jax.random.key(0), (2, 6, 5, 3))
    rows = im2col(x, (2, 3), **options)
    cols = jax.random.normal(jax.random.key(1), rows.shape)
    back = col2im(cols, (6, 5), (2, 3), **options)
    np.testing.assert_allclose((rows * cols).sum(), (x * back).sum(), rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"dilation": (1, 2), "padding": "same"},
        {"stride": (2, 3), "padding": ((0, 2), (1, 0)), "groups": 2},
    ],
)
def test_in_double_precision_it_equals_xla_and_its_gradients(options):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        shapes = (2, 6, 7, 4), (3, 2, 4 // options.get("groups", 1), 6), (6,)
        arrays = [jnp.asarray(rng.normal(size=shape)) for shape in shapes]
        shape = jax.eval_shape(partial(conv2d, **options), *arrays).shape
        gradient = jnp.asarray(rng.normal(size=shape))

        def pulled(function):
            @jax.jit
            def both(arrays, gradient):
                out, pull = jax.vjp(partial(function, **options), *arrays)
                return out, *pull(gradient)

            return both(arrays, gradient)

        found = pulled(conv2d_im2col)
        assert found[0].dtype == jnp.float64
        for got, want in zip(found, pulled(conv2d), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_it_can_be_jitted_and_mapped_and_says_what_does_not_fit():
    x, kernel = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 2)), jnp.ones((3, 3, 2, 1))
    mapped = jax.jit(jax.vmap(jax.grad(lambda one: conv2d_im2col(one, kernel).sum())))(x)
    assert mapped[1, 0, :, :, 0].tolist() == [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]]
    with pytest.raises(UsageError, match="a 3x3 window needs a map of at least 3x3"):
        conv2d_im2col(jnp.ones((1, 2, 2, 2)), kernel)
    with pytest.raises(UsageError, match="the kernel sees 2 x 1 channels"):
        conv2d_im2col(jnp.ones((1, 4, 4, 3)), kernel)
