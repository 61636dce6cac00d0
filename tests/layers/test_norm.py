# SPDX-License-Identifier: Apache-2.0
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.layers import BatchNorm, batch_norm, dropout, local_response_norm
from cnnjax.layers.norm import normalise_batch


def steps(layer: BatchNorm, variables: Any, batches: Any) -> tuple[Any, Any]:
    out: Any = None
    for batch in batches:
        out, state = layer.apply(variables, batch, train=True, mutable=["batch_stats"])
        variables = {**variables, **state}
    return out, variables


def test_batch_norm_by_hand():
    """The batch [1, 3] has mean 2, biased variance 1, unbiased 2; the running ones keep 0.9 of 0 and 1."""
    layer, x = BatchNorm(epsilon=0.0), jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1)
    variables: Any = layer.init(jax.random.key(0), x, train=True)
    assert variables["batch_stats"]["mean"].tolist() == [0] and variables["batch_stats"]["var"].tolist() == [1]
    out, variables = steps(layer, variables, [x])
    np.testing.assert_allclose(out.ravel(), [-1, 1], rtol=1e-6)
    np.testing.assert_allclose(variables["batch_stats"]["mean"], [0.2], rtol=1e-6)
    np.testing.assert_allclose(variables["batch_stats"]["var"], [0.9 + 0.1 * 2], rtol=1e-6)
    evaluated: Any = layer.apply(variables, x, train=False)
    np.testing.assert_allclose(np.ravel(evaluated), (np.array([1, 3]) - 0.2) / np.sqrt(1.1), rtol=1e-6)


def test_batch_norm_equals_torch_over_three_steps_and_in_evaluation():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    batches = [rng.normal(3, 2, (4, 3, 2, 5)).astype(np.float32) for _ in range(3)]
    scale, bias = rng.normal(size=(2, 5)).astype(np.float32)
    theirs = torch.nn.BatchNorm2d(5)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(scale))
        theirs.bias.copy_(torch.tensor(bias))
    wanted: Any = None
    for batch in batches:
        wanted = theirs(torch.tensor(batch.transpose(0, 3, 1, 2)))
    stats = {"mean": jnp.zeros(5), "var": jnp.ones(5)}
    variables = {"params": {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}, "batch_stats": stats}
    out, variables = steps(BatchNorm(), variables, [jnp.asarray(batch) for batch in batches])
    np.testing.assert_allclose(out, wanted.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variables["batch_stats"]["mean"], theirs.running_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(variables["batch_stats"]["var"], theirs.running_var.numpy(), rtol=1e-5)
    wanted = theirs.eval()(torch.tensor(batches[0].transpose(0, 3, 1, 2))).detach().numpy().transpose(0, 2, 3, 1)
    out = np.asarray(BatchNorm().apply(variables, jnp.asarray(batches[0]), train=False))
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)


def test_the_written_derivative_is_the_derived_one():
    def derived(x, scale, bias):
        axes = tuple(range(x.ndim - 1))
        mean = x.mean(axes, keepdims=True)
        var = jnp.square(x - mean).mean(axes, keepdims=True)
        shape = (1,) * (x.ndim - 1) + (-1,)
        out = (x - mean) / jnp.sqrt(var + 1e-3) * scale.reshape(shape) + bias.reshape(shape)
        return out, mean.ravel(), var.ravel()

    def score(function, x, scale, bias):
        out, mean, var = function(x, scale, bias)
        return jnp.sum(jnp.sin(out)) + jnp.vdot(mean, mean) + jnp.sum(var**2)

    ours = functools.partial(normalise_batch, epsilon=1e-3)
    for shape in ((4, 3, 2, 5), (6, 5)):
        keys = jax.random.split(jax.random.key(0), 6)
        args = tuple(jax.random.normal(k, s) for k, s in zip(keys[:3], (shape, (5,), (5,)), strict=True))
        along = tuple(jax.random.normal(k, s) for k, s in zip(keys[3:], (shape, (5,), (5,)), strict=True))
        found = []
        for function in (ours, derived):
            gradient = jax.grad(functools.partial(score, function), argnums=(0, 1, 2))

            @jax.jit
            def both(args, along, gradient=gradient):
                mapped = jax.vmap(gradient)(*(jnp.stack([a, 2 * a]) for a in args))
                return jax.jvp(gradient, args, along), mapped

            found.append(both(args, along))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), *found)
    low = jax.eval_shape(jax.grad(lambda x: normalise_batch(x, *args[1:], 1e-3)[0].sum()), args[0].astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16


@pytest.mark.parametrize("mean", [0.5, 3.0, 5.0, 1000.0])
def test_the_variance_keeps_its_digits_beside_any_mean(mean):
    """Float32 holds seven digits: 1000 squared less 1000 squared would leave none of a deviation of 0.1."""
    noise = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype(np.float32)
    x = (noise * np.float32(0.1) + np.float32(mean)).astype(np.float32)
    for run in (lambda *args: normalise_batch(*args, 1e-5), jax.jit(lambda *args: normalise_batch(*args, 1e-5))):
        _, found, var = run(jnp.asarray(x), jnp.ones(3), jnp.zeros(3))
        np.testing.assert_allclose(found, x.mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
        np.testing.assert_allclose(var, x.var((0, 1, 2), dtype=np.float64), rtol=1e-4)


def test_channels_that_do_not_vary_have_variance_0():
    x = jnp.broadcast_to(jnp.array([0.0, 7.3, -123.4]), (4, 3, 3, 3))
    out, mean, var = jax.jit(normalise_batch, static_argnums=3)(x, jnp.ones(3), jnp.zeros(3), 1e-5)
    np.testing.assert_allclose(mean, [0, 7.3, -123.4], rtol=1e-6)
    assert (var >= 0).all() and (var < 1e-8).all() and (abs(out) < 0.05).all()  # the mean itself is rounded


def test_low_precision_does_not_cancel():
    """Values about 1000 with deviation 4, in bfloat16: mean * factor and x * factor are both near 250."""
    x = jnp.array([992.0, 1000, 1008], jnp.bfloat16)[:, None]
    one, zero = jnp.ones(1), jnp.zeros(1)
    out = batch_norm(x, one, zero, jnp.array([1001.0]), jnp.array([16.0]), epsilon=0.0)
    assert out.dtype == jnp.bfloat16 and out.ravel().tolist() == [-2.25, -0.25, 1.75]


def test_local_response_norm_by_hand():
    x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3)
    out = local_response_norm(x, size=2, alpha=0.5, beta=1.0, k=1.0)  # sums over the channel before and its own
    np.testing.assert_allclose(out.ravel(), [1 / 1.5, 2 / 3.5, 3 / 7.5], rtol=1e-6)
    alexnet = local_response_norm(jnp.full((1, 1, 1, 5), 100.0))
    np.testing.assert_allclose(alexnet[0, 0, 0, 2], 100 / (2 + 1e-4 * 5e4) ** 0.75, rtol=1e-5)
    half = local_response_norm(jnp.full((1, 1, 1, 5), 1000.0, jnp.float16))  # its square is beyond float16
    assert half.dtype == jnp.float16 and float(half[0, 0, 0, 2]) == pytest.approx(1000 / 502**0.75, rel=1e-3)
    with pytest.raises(UsageError, match="size is 0"):
        local_response_norm(x, size=0)


def test_dropout_keeps_the_expectation_and_follows_its_key():
    x, key = jnp.ones((100, 100)), jax.random.key(0)
    out = dropout(key, x, 0.2)
    assert set(np.unique(out)) == {0.0, 1.25} and abs(float(out.mean()) - 1) < 0.02
    np.testing.assert_array_equal(out, jax.jit(dropout, static_argnums=2)(key, x, 0.2))
    assert (out != dropout(jax.random.key(1), x, 0.2)).any()
    assert dropout(key, x.astype(jnp.bfloat16), 0.5).dtype == jnp.bfloat16
    np.testing.assert_array_equal(dropout(key, x, 0), x)
    gradient = jax.grad(lambda x: dropout(key, x, 1).sum())(x)
    assert not gradient.any() and not dropout(key, x, 1).any()
    for rate in (-0.1, 1.5):
        with pytest.raises(UsageError, match=f"dropout rate is {rate}"):
            dropout(key, x, rate)
