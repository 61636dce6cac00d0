# SPDX-License-Identifier: Apache-2.0
"""Views against slicing by hand, and tta against a loop over examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.augment import make_augment
from cnnjax.errors import UsageError
from cnnjax.protocols import views

IMAGE = np.random.default_rng(0).random((2, 7, 9, 3), np.float32)
ROWS = jnp.arange(2)


def shown(of: views.Views, image=IMAGE, example=ROWS) -> list[np.ndarray]:
    make = jax.jit(of.make)
    each = [{name: values[v] for name, values in of.rows.items()} for v in range(len(of.weight))]
    return [np.asarray(make(jnp.asarray(image), example, row)) for row in each]


def test_ten_crops_are_corners_middle_and_mirrors():
    got = shown(views.ten_crops((7, 9), (4, 5)))
    plain = [IMAGE[:, :4, :5], IMAGE[:, :4, 4:], IMAGE[:, 3:, :5], IMAGE[:, 3:, 4:], IMAGE[:, 2:6, 2:7]]
    for view, expected in zip(got, [*plain, *(each[:, :, ::-1] for each in plain)], strict=True):
        np.testing.assert_array_equal(view, expected)
    assert views.ten_crops((7, 9), (4, 5)).weight.sum() == pytest.approx(1)


def test_centre_and_mirror():
    (got,) = shown(views.centre((7, 9), (3, 3)))
    np.testing.assert_array_equal(got, IMAGE[:, 2:5, 3:6])
    plain, mirrored = shown(views.whole(mirrored=True))
    np.testing.assert_array_equal(plain, IMAGE)
    np.testing.assert_array_equal(mirrored, IMAGE[:, :, ::-1])
    assert len(shown(views.whole(mirrored=False))) == 1


def test_mirror_shift_is_that_of_airbench():
    got = views.mirror_shift()
    padded = np.pad(IMAGE, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")

    def net(image):  # any function of the pixels
        return np.einsum("bhwc,hwc->b", image, np.random.default_rng(1).random((7, 9, 3)))

    def infer_mirror(image):
        return 0.5 * net(image) + 0.5 * net(image[:, :, ::-1])

    moved = np.stack([infer_mirror(padded[:, 0:7, 0:9]), infer_mirror(padded[:, 2:9, 2:11])]).mean(0)
    expected = 0.5 * infer_mirror(IMAGE) + 0.5 * moved
    result = sum(weight * net(view) for weight, view in zip(got.weight, shown(got), strict=True))
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_augmented_views_are_a_function_of_seed_example_and_view(tiny):
    config = tiny("augment.mirror=0.5", "augment.shift=2", "augment.mixup=0.3", "augment.brightness=0.1")
    mean = (0.0,)
    got = shown(views.augmented(config.augment, mean, seed=3, num_views=4))
    np.testing.assert_array_equal(got[0], IMAGE)
    one = jax.jit(make_augment(config.augment, mean))
    for view in range(1, 4):
        for example in range(2):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), views.VIEW_STREAM), view)
            expected = one(jax.random.fold_in(key, example)[None], jnp.asarray(IMAGE[example : example + 1]))
            np.testing.assert_allclose(got[view][example], expected[0], atol=1e-6)
    # Other neighbours, order and number of views: the same pictures.
    again = shown(views.augmented(config.augment, mean, seed=3, num_views=2), IMAGE[::-1].copy(), ROWS[::-1])
    np.testing.assert_array_equal(again[1][::-1], got[1])
    other = shown(views.augmented(config.augment, mean, seed=4, num_views=2))
    assert np.abs(other[1] - got[1]).max() > 0.01


def test_augmented_views_need_an_augmentation(tiny):
    with pytest.raises(UsageError, match="switches nothing on: add"):
        views.augmented(tiny().augment, (0.0,), seed=0, num_views=2)
    with pytest.raises(UsageError, match="but mixing"):
        views.augmented(tiny("augment.mixup=0.2").augment, (0.0,), seed=0, num_views=2)
    with pytest.raises(UsageError, match="take 2 or more"):
        views.augmented(tiny("augment.shift=1").augment, (0.0,), seed=0, num_views=1)
