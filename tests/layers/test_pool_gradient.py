# SPDX-License-Identifier: Apache-2.0
"""Gradients of pooling against those that JAX derives from `reduce_window`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cnnjax import layers
from cnnjax.layers.sizes import make_window

WINDOWS = {
    "2x2": {"kernel_size": 2},
    "2x2 of an odd map": {"kernel_size": 2, "ceil_mode": True},
    "2x2 padded": {"kernel_size": 2, "padding": 1},
    "3x3/2 padded": {"kernel_size": 3, "stride": 2, "padding": 1},
    "3x3/2 sticking out": {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    "3x2/1": {"kernel_size": (3, 2), "stride": 1},
    "2x3/(3,2)": {"kernel_size": (2, 3), "stride": (3, 2), "padding": ((1, 0), (0, 1))},
    "2x2/3": {"kernel_size": 2, "stride": 3},
}


def native_max(x, *, kernel_size, stride=None, padding=0, ceil_mode=False):
    window = make_window(
        x.shape[1:3],
        kernel_size,
        stride=kernel_size if stride is None else stride,
        padding=padding,
        ceil_mode=ceil_mode,
    )
    sizes, strides = (1, *window.kernel_size, 1), (1, *window.stride, 1)
    return jax.lax.reduce_window(
        x, np.array(-np.inf, x.dtype), jax.lax.max, sizes, strides, ((0, 0), *window.reach, (0, 0))
    )


def maps(dtype=jnp.float32, seed=0):
    """[2,7,6,3] of few different numbers, so that maxima are often equal; half of them 0, as after a ReLU."""
    key = jax.random.key(seed)
    return jnp.maximum(jax.random.randint(key, (2, 7, 6, 3), -3, 4), 0).astype(dtype)


@partial(jax.jit, static_argnums=0)
def pulled(pool, x):
    """The pooled maps, and a fixed gradient of them pulled back."""
    out, back = jax.vjp(pool, x)
    given = np.random.default_rng(9).normal(size=out.shape).astype(np.float32)
    return out, back(jnp.asarray(given, out.dtype))[0]


@pytest.mark.parametrize("options", WINDOWS.values(), ids=WINDOWS)
def test_the_gradient_goes_where_the_native_one_goes(options):
    ours, native = partial(layers.max_pool2d, **options), partial(native_max, **options)
    dtypes = (jnp.float32, jnp.bfloat16)
    # In the second half all windows are -inf: the padding comes first.
    given = [jnp.concatenate([maps(dtype), jnp.full((2, 7, 6, 3), -jnp.inf, dtype)]) for dtype in dtypes]
    found = jax.jit(lambda given: [(pulled(ours, x), pulled(native, x)) for x in given])(given)
    for dtype, ((out, gradient), (wanted_out, wanted)) in zip(dtypes, found, strict=True):
        np.testing.assert_array_equal(out, wanted_out)
        assert gradient.dtype == dtype
        tolerance = 1e-6 if dtype == jnp.float32 else 0.02  # sums of up to four in another order
        np.testing.assert_allclose(
            gradient.astype(jnp.float32), wanted.astype(jnp.float32), rtol=tolerance, atol=tolerance
        )


def test_forward_mode_second_derivatives_maps_and_loops():
    pool, native = (partial(f, kernel_size=3, stride=2, padding=1) for f in (layers.max_pool2d, native_max))
    x, direction = maps(), jax.random.normal(jax.random.key(1), (2, 7, 6, 3))

    def along(function):
        return jax.jit(lambda x: jax.jvp(function, (x,), (direction,))[1])(x)

    np.testing.assert_array_equal(along(pool), along(native))

    def loss(pool, x):
        return jnp.sum(pool(x * x) ** 3)

    wanted = along(jax.grad(partial(loss, native)))
    gradient = jax.grad(partial(loss, pool))
    np.testing.assert_allclose(along(gradient), wanted, rtol=1e-5)
    over_reverse = jax.jit(jax.grad(lambda x: jnp.vdot(gradient(x), direction)))(x)
    np.testing.assert_allclose(over_reverse, wanted, rtol=1e-5)

    several = jnp.stack([maps(seed=s) for s in range(3)])
    mapped = jax.jit(jax.vmap(gradient))(several)
    looped = jax.jit(partial(jax.lax.map, gradient))(several)
    single = jax.jit(gradient)
    for i, each in enumerate(several):
        np.testing.assert_allclose(mapped[i], single(each), rtol=1e-6)
        np.testing.assert_allclose(looped[i], single(each), rtol=1e-6)

    def back(gradient):
        return jax.vjp(pool, x)[1](gradient)[0]

    many = jax.random.normal(jax.random.key(2), (4, *jax.eval_shape(pool, x).shape))
    each_way = jax.jit(jax.vmap(back))(many)  # maps shared, gradients many
    np.testing.assert_allclose(each_way[3], jax.jit(back)(many[3]), rtol=1e-6)


def test_double_precision_and_other_platforms():
    with jax.enable_x64(True):
        x = maps(jnp.float64)
        pool = partial(layers.max_pool2d, kernel_size=2)
        assert pulled(pool, x)[1].dtype == jnp.float64
        apart = x + np.arange(252.0).reshape(x.shape) / 300
        check_grads(jax.jit(lambda x: pool(x * x)), (apart,), order=2)
    lowered = jax.jit(lambda x: pulled(partial(layers.max_pool2d, kernel_size=2), x)).trace(maps())
    assert "select_and_scatter" in lowered.lower(lowering_platforms=("cuda",)).as_text()
    assert "select_and_scatter" not in lowered.lower(lowering_platforms=("cpu",)).as_text()


def test_windows_too_large_to_compare_and_integers_keep_the_native_way():
    x = jax.random.normal(jax.random.key(0), (1, 9, 9, 2))
    ours, native = (partial(f, kernel_size=9) for f in (layers.max_pool2d, native_max))
    np.testing.assert_array_equal(pulled(ours, x)[1], pulled(native, x)[1])
    text = str(jax.make_jaxpr(jax.grad(lambda x: ours(x).sum()))(x))
    assert "max_window_put" not in text
    assert layers.max_pool2d(jnp.arange(16).reshape(1, 4, 4, 1), 2).ravel().tolist() == [5, 7, 13, 15]


@pytest.mark.parametrize("options", [{}, {"padding": 1}, {"ceil_mode": True}, {"stride": 1}])
def test_averages_have_the_native_gradient(options):
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))
    pool = partial(layers.avg_pool2d, kernel_size=2, **options)
    _, gradient = pulled(pool, x)
    weights, stride = np.ones((2, 2)), options.get("stride")
    rest = {name: value for name, value in options.items() if name != "stride"}
    slow = partial(layers.weighted_avg_pool2d, weights=weights, stride=stride, **rest)
    np.testing.assert_allclose(gradient, pulled(slow, x)[1], rtol=1e-5, atol=1e-6)
    curvature = jax.jit(jax.hessian(lambda x: jnp.sum(pool(x) ** 2)))(x[:1, :2, :2, :1])
    assert curvature.shape == (1, 2, 2, 1) * 2 and (curvature >= 0).all() and curvature.any()
