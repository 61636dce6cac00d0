# SPDX-License-Identifier: Apache-2.0
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers
from cnnjax.errors import UsageError

FOUR = [[4, 6, 1, 1], [1, 3, 1, 3], [4, 0, 0, 8], [8, 5, 4, 0]]
FIVE = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]


def one_map(rows, dtype=jnp.float32):
    return jnp.array(rows, dtype)[None, :, :, None]


def rows(array):
    return array[0, :, :, 0].tolist()


def test_the_lectures_examples():
    assert rows(layers.max_pool2d(one_map(FOUR), 2)) == [[6, 3], [8, 8]]
    assert rows(layers.max_pool2d(one_map(FIVE), 3, 1)) == [[3, 3, 3], [3, 3, 3], [3, 2, 3]]


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.bfloat16])
def test_max_pooling_of_other_types(dtype):
    x = one_map(FOUR, dtype)
    out, indices = layers.max_pool2d(x, 2, padding=1, return_indices=True)
    assert out.dtype == dtype and indices.dtype == jnp.int32
    assert rows(out) == rows(layers.max_pool2d(x, 2, padding=1)) == [[4, 6, 1], [4, 3, 8], [8, 5, 0]]


def test_indices_are_places_in_the_map_and_the_first_of_equals_wins():
    out, indices = layers.max_pool2d(one_map(FOUR), 2, return_indices=True)
    assert rows(indices) == [[1, 7], [12, 11]]
    flat = one_map(FOUR).reshape(-1)
    np.testing.assert_array_equal(flat[indices], out)
    lowest = jnp.full((1, 2, 2, 1), -jnp.inf)
    assert rows(layers.max_pool2d(lowest, 2, padding=1, return_indices=True)[1]) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_is_never_the_maximum_and_equals_share_no_gradient(dilation):
    pool = partial(layers.max_pool2d, kernel_size=2, stride=1, padding=1, dilation=dilation)
    assert float(pool(-jnp.ones((1, 3, 3, 1))).max()) == -1
    gradient = jax.grad(lambda x: layers.max_pool2d(x, 2, dilation=dilation).sum())(jnp.ones((1, 3, 3, 1)))
    assert rows(gradient) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_a_dilated_window_that_misses_a_small_map():
    out, indices = layers.max_pool2d(jnp.ones((1, 1, 1, 1)), 2, dilation=2, padding=1, return_indices=True)
    assert out.item() == -np.inf and indices.item() == 1  # H * W


def test_nan_is_the_maximum():
    x = one_map(FOUR).at[0, 0, 0, 0].set(jnp.nan)
    out, indices = layers.max_pool2d(x, 2, return_indices=True)
    assert np.isnan(out[0, 0, 0, 0]) and np.isnan(layers.max_pool2d(x, 2)[0, 0, 0, 0])
    assert rows(indices) == [[0, 7], [12, 11]] and rows(out)[1] == [8, 8]


def test_unpooling_puts_the_maxima_back():
    out, indices = layers.max_pool2d(one_map(FOUR), 2, return_indices=True)
    back = layers.max_unpool2d(out, indices, 2)
    assert rows(back) == [[0, 6, 0, 0], [0, 0, 0, 3], [0, 0, 0, 8], [8, 0, 0, 0]]
    out, indices = layers.max_pool2d(one_map(FIVE), 2, return_indices=True)
    back = layers.max_unpool2d(out, indices, 2, output_size=5)
    assert rows(back) == [[3, 0, 0, 0, 0], [0, 0, 0, 3, 0], [3, 0, 2, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_average_pooling_counts_what_it_is_told_to():
    x = jnp.ones((1, 3, 3, 1))
    pool = partial(layers.avg_pool2d, x, 2, 2, padding=1)
    assert rows(pool()) == [[0.25, 0.5], [0.5, 1]]
    assert rows(pool(count_include_pad=False)) == [[1, 1], [1, 1]]
    assert rows(pool(divisor_override=1)) == [[1, 2], [2, 4]]
    assert rows(layers.avg_pool2d(x, 2, ceil_mode=True)) == [[1, 1], [1, 1]]  # what sticks out is not counted
    assert rows(layers.avg_pool2d(one_map([[1, 2], [3, 5]], jnp.int32), 2)) == [[2.75]]


def test_averages_of_low_precision_are_summed_in_float32():
    x = jnp.full((1, 32, 32, 1), 1.0078125, jnp.bfloat16)  # in 8 bits of mantissa such a sum stops at 256
    for mean in (
        layers.avg_pool2d(x, 32),
        layers.adaptive_avg_pool2d(x, 1),
        layers.weighted_avg_pool2d(x, x[0, :, :, 0]),
    ):
        assert mean.dtype == jnp.bfloat16 and mean.item() == 1.0078125


def test_weighted_averages():
    x, weights = one_map(FOUR), [[1, 2], [0, 1]]
    assert rows(layers.weighted_avg_pool2d(x, weights)) == [[(4 + 12 + 3) / 4, (1 + 2 + 3) / 4], [9 / 4, 16 / 4]]
    options = {"padding": 1, "ceil_mode": True}
    for include in (True, False):
        uniform = layers.weighted_avg_pool2d(x, np.full((3, 2), 7.0), 2, count_include_pad=include, **options)
        plain = layers.avg_pool2d(x, (3, 2), 2, count_include_pad=include, **options)
        np.testing.assert_allclose(uniform, plain, rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda w: layers.weighted_avg_pool2d(x, w).sum()))(jnp.ones((2, 2)))
    assert gradient.shape == (2, 2) and abs(gradient.sum()) < 1e-5  # only ratios matter: no change along (1, 1)


def test_adaptive_and_global_pooling():
    x = one_map(FIVE)
    assert rows(layers.adaptive_avg_pool2d(x, 5)) == rows(x)
    assert rows(layers.adaptive_max_pool2d(x, 2)) == [[3, 3], [3, 3]]
    assert rows(layers.adaptive_avg_pool2d(one_map([[1, 2, 6]]), (1, 2))) == [[1.5, 4]]  # windows 0..1 and 1..2
    assert rows(layers.adaptive_avg_pool2d(one_map([[1, 2]]), (2, 4))) == [[1, 1, 2, 2]] * 2
    x = jax.random.normal(jax.random.key(0), (2, 4, 3, 5))
    np.testing.assert_allclose(
        layers.global_avg_pool2d(x), layers.adaptive_avg_pool2d(x, 1)[:, 0, 0], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(layers.global_max_pool2d(x), layers.adaptive_max_pool2d(x, 1)[:, 0, 0])


def test_everything_can_be_jitted_mapped_and_differentiated():
    x = jax.random.normal(jax.random.key(0), (2, 2, 6, 6, 3))

    def loss(one):
        values, indices = layers.max_pool2d(one, 2, dilation=2, stride=1, return_indices=True)
        out = layers.max_unpool2d(*layers.max_pool2d(one, 3, return_indices=True), 3)
        pools = layers.avg_pool2d(one, 2), layers.adaptive_avg_pool2d(one, 4), layers.adaptive_max_pool2d(one, 4)
        return values.sum() + jnp.square(out).sum() + sum(jnp.square(p).sum() for p in pools) + 0 * indices.sum()

    gradient = jax.grad(loss)
    mapped, single = jax.jit(lambda x: (jax.vmap(gradient)(x), gradient(x[1])))(x)
    np.testing.assert_allclose(mapped[1], single, rtol=1e-4, atol=1e-5)
    assert jnp.abs(single).max() > 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: layers.max_pool2d(x, 3, padding=2), "padding 2 is more than half of the window's 3; make it 1"),
        (lambda x: layers.avg_pool2d(x, 5), "a 5x5 window needs a map of at least 5x5"),
        (lambda x: layers.avg_pool2d(x, 2, divisor_override=0), "divisor_override is 0"),
        (lambda x: layers.weighted_avg_pool2d(x, [1, 2]), "weights have the shape (2,)"),
        (lambda x: layers.weighted_avg_pool2d(x, [[1, -1]]), "weights sum to zero"),
        (lambda x: layers.adaptive_avg_pool2d(x[:, :0], 1), "the map is 0x4"),
        (lambda x: layers.adaptive_max_pool2d(x, 0), "output_size is 0"),
        (lambda x: layers.max_unpool2d(x, x[:, :1], 2), "indices have the shape (1, 1, 4, 1)"),
        (lambda x: layers.max_unpool2d(x, x, 2, output_size=10), "output_size 10x10 does not pool to 4x4"),
    ],
)
def test_what_does_not_fit_is_told(call, message):
    with pytest.raises(UsageError) as error:
        call(jnp.ones((1, 4, 4, 1)))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("module", "function", "options"),
    [
        (layers.MaxPool, layers.max_pool2d, {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
        (layers.MaxPool, layers.max_pool2d, {"kernel_size": 2, "dilation": 2}),
        (layers.AvgPool, layers.avg_pool2d, {"kernel_size": 2, "padding": 1, "count_include_pad": False}),
        (layers.AvgPool, layers.avg_pool2d, {"kernel_size": 2, "stride": 3, "ceil_mode": True, "divisor_override": 3}),
        (layers.WeightedAvgPool, layers.weighted_avg_pool2d, {"weights": ((1, 2), (3, 4)), "stride": 1}),
        (layers.GlobalAvgPool, layers.global_avg_pool2d, {}),
        (layers.GlobalMaxPool, layers.global_max_pool2d, {}),
        (layers.AdaptiveAvgPool, layers.adaptive_avg_pool2d, {"output_size": (2, 3)}),
        (layers.AdaptiveMaxPool, layers.adaptive_max_pool2d, {"output_size": 2}),
    ],
)
def test_modules_are_the_functions(module, function, options):
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    np.testing.assert_array_equal(module(**options).apply({}, x), function(x, **options))


def test_modules_name_themselves():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            values, indices = layers.MaxPool(2, return_indices=True, name="pool1")(x)
            x = layers.MaxUnpool(2, name="unpool1")(values, indices)
            return layers.MaxPool(5, name="pool2")(x)

    with pytest.raises(UsageError, match=r"^layer pool2: a 5x5 window needs a map of at least 5x5, and here it is 4x4"):
        Net().apply({}, jnp.ones((1, 4, 4, 1)))
    assert Net().apply({}, jnp.ones((1, 10, 10, 1))).shape == (1, 2, 2, 1)  # pyright: ignore
