# SPDX-License-Identifier: Apache-2.0
"""Averaged weights by hand, and BatchNorm's statistics against the moments of the batches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers import BatchNorm
from cnnjax.models.adapter import from_linen
from cnnjax.protocols.averages import greedy_soup, mean_tree, reestimate
from cnnjax.types import Batch


def test_the_mean_of_trees():
    trees = [{"a": jnp.array([1.0, 2.0]), "n": jnp.array(1)}, {"a": jnp.array([3.0, 5.0]), "n": jnp.array(4)}]
    mean = mean_tree(trees)
    np.testing.assert_array_equal(mean["a"], [2, 3.5])
    assert mean["n"] == 4 and mean["a"].dtype == jnp.float32


def test_a_greedy_soup_keeps_what_does_not_harm():
    alone = [0.80, 0.90, 0.85, 0.70]
    table = {(1, 2): 0.91, (1, 2, 0): 0.905, (1, 2, 3): 0.91}
    asked = []

    def score(members):
        asked.append(members)
        return table[members]

    assert greedy_soup(score, alone) == (1, 2, 3)  # 0 makes it worse, 3 leaves it as it is
    assert asked == [(1, 2), (1, 2, 0), (1, 2, 3)]


class _Normalised(nn.Module):
    momentum: float

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.Dense(3, name="mix")(image)
        x = BatchNorm(momentum=self.momentum, name="first")(x, train=train)
        x = BatchNorm(momentum=0.7, name="second")(nn.relu(x), train=train)
        return {"logits": x.mean((1, 2))}


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
def test_statistics_are_the_mean_moments_of_the_batches(momentum):
    model = from_linen(_Normalised(momentum))
    images = np.random.default_rng(0).normal(size=(3, 8, 4, 4, 2)).astype(np.float32)
    params, state = model.init(jax.random.key(0), jnp.asarray(images[0]))
    rows = jnp.zeros(8)
    batches = [Batch(image=jnp.asarray(image), label=rows, mask=rows) for image in images]
    got = reestimate(model, params, state, batches, jax.random.key(1))
    mixed = images @ np.asarray(params["mix"]["kernel"]) + np.asarray(params["mix"]["bias"])
    flat = mixed.reshape(3, -1, 3)
    stats = got["batch_stats"]["first"]
    np.testing.assert_allclose(stats["mean"], flat.mean(1).mean(0), atol=1e-4)
    np.testing.assert_allclose(stats["var"], flat.var(1, ddof=1).mean(0), rtol=1e-3)
    assert jax.tree.structure(got) == jax.tree.structure(state)
    logits = model.apply(params, got, batches[0]["image"], train=False)[0]["logits"]
    assert np.isfinite(np.asarray(logits)).all()


def test_a_network_without_statistics_needs_no_batch():
    assert reestimate(None, {}, {}, [], jax.random.key(0)) == {}  # pyright: ignore[reportArgumentType]
