# SPDX-License-Identifier: Apache-2.0
"""Occlusion of a linear network is the weights under the patch, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.see.occlusion import occlude, spread
from cnnjax.types import Model

WEIGHT = np.random.default_rng(0).normal(size=(5, 4, 2, 3)).astype(np.float32)  # [H,W,C,K]
IMAGE = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5, 4, 2)), jnp.float32)
TARGET = np.array([2, 0, 1])


def apply(params, model_state, image, *, train, key=None):
    assert image.shape[0] <= 7
    return {"logits": jnp.einsum("bhwc,hwck->bk", image, WEIGHT)}, model_state


MODEL = Model(lambda key, image: ({}, {}), apply)


def test_the_drop_is_what_lies_under_the_patch():
    baseline = jnp.array([0.5, -1.0])
    found = occlude(MODEL, {}, {}, IMAGE, TARGET, baseline, size=(2, 3), stride=2, batch_size=7)
    assert found.top.tolist() == [0, 2, 3] and found.left.tolist() == [0, 1]  # the last is flush with the border
    loss = (np.asarray(IMAGE) - np.asarray(baseline)) * WEIGHT.transpose(3, 0, 1, 2)[TARGET]  # of each pixel
    for i in range(3):
        for r, top in enumerate(found.top):
            for s, left in enumerate(found.left):
                expected = loss[i, top : top + 2, left : left + 3].sum()
                np.testing.assert_allclose(found.whole_logit[i] - found.logit[i, r, s], expected, atol=1e-4)
    logits = np.einsum("bhwc,hwck->bk", IMAGE, WEIGHT)
    np.testing.assert_allclose(found.whole_logit, logits[np.arange(3), TARGET], rtol=1e-4)
    odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.whole_probability, odds[np.arange(3), TARGET], rtol=1e-4)
    assert ((found.probability >= 0) & (found.probability <= 1)).all()


def test_the_batch_size_changes_nothing():
    one, seven = (
        occlude(MODEL, {}, {}, IMAGE, TARGET, jnp.float32(0), size=(2, 2), stride=1, batch_size=n) for n in (1, 7)
    )
    np.testing.assert_allclose(one.logit, seven.logit, atol=1e-5)


def test_a_pixel_has_the_mean_of_the_patches_over_it():
    found = occlude(MODEL, {}, {}, IMAGE[:1], TARGET[:1], jnp.float32(0), size=(5, 3), stride=1, batch_size=7)
    fine = spread(found, np.array([[[1.0, 3.0]]]), (5, 4))  # columns 0-2 and 1-3
    np.testing.assert_allclose(fine[0], np.tile([1, 2, 2, 3], (5, 1)))


@pytest.mark.parametrize(("size", "stride", "message"), [((6, 2), 1, "does not fit"), ((2, 2), 3, "leaves gaps")])
def test_patches_that_cannot_be(size, stride, message):
    with pytest.raises(UsageError, match=message):
        occlude(MODEL, {}, {}, IMAGE, TARGET, jnp.float32(0), size=size, stride=stride)
