# SPDX-License-Identifier: Apache-2.0
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.augment import make_mix, needs_partner
from cnnjax.augment.mix import beta_quantiles
from experiments import default

pytestmark = pytest.mark.optimized

COUNT = 2000


def mixed(**augment: float) -> tuple[np.ndarray, np.ndarray]:
    """White images of class 0 mixed with black ones of class 2: images [COUNT,8,6,1] and labels [COUNT,3]."""
    config = default.get_config()
    config.augment.update(augment)
    shape = (COUNT, 8, 6, 1)
    label, partner_label = (jnp.broadcast_to(jax.nn.one_hot(c, 3).reshape(1, 3), (COUNT, 3)) for c in (0, 2))
    keys = jax.random.split(jax.random.key(0), COUNT)
    image, label = jax.jit(make_mix(config.augment))(keys, jnp.ones(shape), jnp.zeros(shape), label, partner_label)
    assert image.dtype == label.dtype == jnp.float32
    label = np.asarray(label)
    np.testing.assert_allclose(label.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(label[:, 1], 0)
    return np.asarray(image)[..., 0], label


def test_needs_partner():
    config = default.get_config()
    assert not needs_partner(config.augment)
    for key in ("mixup", "cutmix"):
        config = default.get_config()
        config.augment[key] = 0.5
        assert needs_partner(config.augment)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_blends_image_and_label_by_one_beta_number(alpha: float):
    image, label = mixed(mixup=alpha)
    np.testing.assert_array_equal(np.ptp(image, axis=(1, 2)), 0)
    np.testing.assert_array_equal(image[:, 0, 0], label[:, 0])
    assert label[:, 0].mean() == pytest.approx(0.5, abs=0.03)
    assert label[:, 0].var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)  # of Beta(alpha, alpha)


def test_cutmix_pastes_a_box_and_counts_its_pixels():
    image, label = mixed(cutmix=1.0)
    assert set(np.unique(image)) == {0, 1}
    pasted = image == 0
    np.testing.assert_allclose(label[:, 2], pasted.mean(axis=(1, 2)), atol=1e-7)
    height, width = pasted.any(axis=2).sum(axis=1), pasted.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(height * width, pasted.sum(axis=(1, 2)))  # one full rectangle
    whole = (height > 0) & ~pasted[:, [0, -1]].any(axis=(1, 2)) & ~pasted[:, :, [0, -1]].any(axis=(1, 2))
    assert whole.sum() > 50
    # Not cut at the border: sides floor(8 s) and floor(6 s) for one s.
    assert ((height[whole] / 8 < (width[whole] + 1) / 6) & (width[whole] / 6 < (height[whole] + 1) / 8)).all()


def test_cutmix_takes_all_places_and_sizes():
    image, label = mixed(cutmix=1.0)
    often = (image == 0).mean(axis=0)
    assert often.min() > 0.1 and often.max() < 0.6
    assert label[:, 0].min() < 0.35 and label[:, 0].max() > 0.99


def test_with_both_on_each_image_takes_either():
    image, _ = mixed(mixup=1.0, cutmix=1.0)
    by_mixup = np.ptp(image, axis=(1, 2)) == 0
    by_mixup &= (image[:, 0, 0] > 0) & (image[:, 0, 0] < 1)
    assert 0.46 < by_mixup.mean() < 0.54


def test_beta_quantiles():
    np.testing.assert_allclose(beta_quantiles(1.0), (np.arange(4096) + 0.5) / 4096)
    for alpha in (1e-3, 0.2, 8.0, 1e4):
        values = beta_quantiles(alpha)
        assert values.min() >= 0 and values.max() <= 1 and (np.diff(values) >= -1e-12).all()
        np.testing.assert_allclose(values, 1 - values[::-1], atol=1e-9)
        assert values.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.01)


def test_an_image_mixed_with_itself_is_itself():
    config = default.get_config()
    config.augment.mixup = config.augment.cutmix = 1.0
    image: Any = jax.random.uniform(jax.random.key(0), (8, 4, 4, 3))
    label = jax.nn.one_hot(jnp.arange(8), 8)
    keys = jax.random.split(jax.random.key(1), 8)
    again, same = jax.jit(make_mix(config.augment))(keys, image, image, label, label)
    np.testing.assert_allclose(again, image, atol=1e-6)
    np.testing.assert_allclose(same, label, atol=1e-6)
