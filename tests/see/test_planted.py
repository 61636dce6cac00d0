# SPDX-License-Identifier: Apache-2.0
"""Explanations of a network trained on an object at a known place: they find it, and change with the weights."""

from functools import cache
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.models.adapter import from_linen
from cnnjax.see.gradcam import choose_layer, grad_cam, upsample, usable_layers
from cnnjax.see.occlusion import occlude, spread
from cnnjax.see.program import with_guided_relu
from cnnjax.see.saliency import integrated_gradients, magnitude, make_gradient, signed, smooth_grad
from cnnjax.types import Model

SIDE, OBJECT = 16, 5


class _Net(nn.Module):
    @nn.compact
    def __call__(self, image, *, train):
        x = nn.relu(nn.Conv(8, (3, 3))(image))
        x = nn.max_pool(nn.relu(nn.Conv(16, (3, 3))(x)), (2, 2), (2, 2))
        x = maps = nn.relu(nn.Conv(16, (3, 3))(x))
        return {"maps": maps, "logits": nn.Dense(2)(x.mean(axis=(1, 2)))}


class Planted(NamedTuple):
    model: Model
    params: dict
    image: jax.Array
    target: np.ndarray
    inside: np.ndarray


def scenes(seed: int, n: int):
    """Noise with a cross (class 0) or a ring (class 1) of 5x5 pixels somewhere: images, labels, masks."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.25, (n, SIDE, SIDE, 1)).astype(np.float32)
    label, inside = rng.integers(0, 2, n), np.zeros((n, SIDE, SIDE), bool)
    ring = np.ones((OBJECT, OBJECT))
    ring[1:-1, 1:-1] = 0
    cross = np.zeros((OBJECT, OBJECT))
    cross[OBJECT // 2] = cross[:, OBJECT // 2] = 1
    for i in range(n):
        top, left = rng.integers(0, SIDE - OBJECT + 1, 2)
        image[i, top : top + OBJECT, left : left + OBJECT, 0] += (cross, ring)[label[i]]
        inside[i, top : top + OBJECT, left : left + OBJECT] = True
    return jnp.asarray(image), jnp.asarray(label), inside


@pytest.fixture(scope="module")
def planted() -> Planted:
    model = from_linen(_Net())
    image, label, _ = scenes(0, 512)
    fresh, _ = jax.jit(model.init)(jax.random.key(0), image[:1])
    tx = optax.adam(1e-2)

    @jax.jit
    def step(params, opt_state, image, label):
        def loss(params):
            logits = model.apply(params, {}, image, train=False)[0]["logits"]
            return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = fresh, tx.init(fresh)
    for i in range(120):
        rows = slice(i % 8 * 64, i % 8 * 64 + 64)
        params, opt_state = step(params, opt_state, image[rows], label[rows])
    test, truth, inside = scenes(1, 32)
    logits = jax.jit(lambda image: model.apply(params, {}, image, train=False)[0]["logits"])(test)
    right = np.asarray(logits.argmax(axis=1) == truth)
    assert right.mean() > 0.9
    return Planted(model, params, test[right], np.asarray(truth)[right], inside[right])


def _gradients(planted, params):
    return make_gradient(planted.model, params, {}), planted.image, planted.target


def _gradient(planted, params):
    explain, image, target = _gradients(planted, params)
    return magnitude(explain(image, target)[1])


def _smooth(planted, params):
    return magnitude(smooth_grad(*_gradients(planted, params), jax.random.key(0), num_samples=16))


def _guided(planted, params):
    return magnitude(make_gradient(with_guided_relu(planted.model), params, {})(planted.image, planted.target)[1])


def _integrated(planted, params):
    found, check = integrated_gradients(*_gradients(planted, params), jnp.float32(0), num_steps=64)
    assert params is not planted.params or np.median(check.relative_error) < 0.05
    return signed(found)


def _grad_cam(planted, params):
    network = (planted.model, params, {}, planted.image)
    layer = choose_layer(usable_layers(*network), None)
    return upsample(grad_cam(*network, planted.target, layer), (SIDE, SIDE))


def _occlusion(planted, params):
    found = occlude(planted.model, params, {}, planted.image, planted.target, jnp.float32(0), size=(4, 4), stride=1)
    return spread(found, found.whole_logit[:, None, None] - found.logit, (SIDE, SIDE))


METHODS = {
    "gradient": _gradient,
    "smooth_grad": _smooth,
    "guided": _guided,
    "integrated_gradients": _integrated,
    "grad_cam": _grad_cam,
    "occlusion": _occlusion,
}


@pytest.fixture(scope="module")
def explained(planted):
    """The maps [B,H,W] of a method on the trained network, each made once."""
    return cache(lambda name: np.asarray(METHODS[name](planted, planted.params)))


@pytest.mark.parametrize("name", METHODS)
def test_the_hottest_pixels_lie_on_the_object(planted, explained, name):
    maps = np.abs(explained(name)).reshape(len(planted.image), -1)
    top = np.argsort(-maps, axis=1)[:, : OBJECT**2]  # as many pixels as the object has
    share = np.take_along_axis(planted.inside.reshape(len(maps), -1), top, axis=1).mean()
    chance = OBJECT**2 / SIDE**2  # 10%
    assert share > 4 * chance, share


def _ranks(maps):
    return np.argsort(np.argsort(maps.reshape(len(maps), -1), axis=1), axis=1)


@pytest.mark.parametrize("name", METHODS)
def test_maps_change_when_the_weights_are_drawn_anew(planted, explained, name):
    """The sanity check of Adebayo et al. 2018, arXiv:1810.03292: low rank correlation with untrained networks.

    Signed maps are compared with their sign. Without it, those of integrated gradients and occlusion stay alike (0.4
    to 0.65 here): both are large where the picture differs from the baseline, whatever the weights.
    """
    trained, correlations = _ranks(explained(name)), []
    init = jax.jit(planted.model.init)
    for seed in range(2):
        fresh, _ = init(jax.random.key(seed), planted.image[:1])
        pairs = zip(trained, _ranks(np.asarray(METHODS[name](planted, fresh))), strict=True)
        correlations.append(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))
    assert np.mean(correlations) < 0.4, correlations
