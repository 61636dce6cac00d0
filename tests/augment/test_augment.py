# SPDX-License-Identifier: Apache-2.0
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cnnjax.augment import AugmentFn, make_augment, make_mix
from cnnjax.errors import UsageError
from experiments import default

COUNT = 24
ON: dict[str, Any] = {
    "mirror": 0.5,
    "crop_area": (0.3, 1.0),
    "shift": 2,
    "rotate": 15.0,
    "shear": 10.0,
    "scale": (0.8, 1.2),
    "brightness": 0.2,
    "contrast": 0.3,
    "channel_gain": 0.3,
    "saturation": 0.3,
    "pca_noise": 0.5,
    "cutout": 3,
    "erase": 0.5,
}
IMAGES = np.asarray(jax.random.uniform(jax.random.key(9), (COUNT, 8, 8, 3)))


def keys() -> jax.Array:
    return jax.random.split(jax.random.key(0), COUNT)


def augment_of(**augment: Any) -> AugmentFn:
    config = default.get_config()
    config.augment.update(augment)
    return make_augment(config.augment, (0.25, 0.5, 0.75))


def changed(**augment: Any) -> np.ndarray:
    return np.asarray(jax.jit(augment_of(**augment))(keys(), IMAGES))


def test_nothing_on_is_the_identity_without_a_copy():
    images = jnp.asarray(IMAGES)
    assert augment_of()(keys(), images) is images
    # These only say how others work.
    assert augment_of(fill="edge", crop_aspect=(0.5, 2.0))(keys(), images) is images


@pytest.mark.parametrize("key", ["mirror", "crop_area", "shift", "rotate", "shear", "scale", "channel_gain", "erase"])
def test_each_switch_changes_images_by_their_own_keys(key: str):
    augment = jax.jit(augment_of(**{key: ON[key]}))
    seen = np.asarray(augment(keys(), IMAGES))
    assert seen.dtype == np.float32 and seen.shape == IMAGES.shape
    assert not np.array_equal(seen, IMAGES)
    copies = np.broadcast_to(IMAGES[:1], IMAGES.shape)
    assert len(np.unique(augment(keys(), copies), axis=0)) > 1


@pytest.mark.optimized
@pytest.mark.parametrize("switches", [{"contrast": 0.3}, ON], ids=["contrast", "all"])
def test_a_row_depends_on_its_key_and_pixels_alone(switches: dict[str, Any]):
    """Bit for bit: the batch size, the place in the batch and the number of devices change nothing."""
    augment = jax.jit(augment_of(**switches, fill="mean"))
    own, images = keys()[:8], IMAGES[:8]
    whole = np.asarray(augment(own, images))
    assert whole.dtype == np.float32
    for size in (1, 3) if len(switches) == 1 else ():  # each is compiled: for all of them two halves must do
        for first in range(0, 8 - size + 1, size):
            rows = slice(first, first + size)
            np.testing.assert_array_equal(augment(own[rows], images[rows]), whole[rows])
    order = np.random.default_rng(0).permutation(8)
    np.testing.assert_array_equal(augment(own[order], images[order]), whole[order])
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    halves = augment(*jax.device_put((own, images), NamedSharding(mesh, PartitionSpec("data"))))
    assert len(halves.sharding.device_set) == 2
    np.testing.assert_array_equal(halves, whole)


def test_compiles_once():
    augment = augment_of(mirror=0.5, cutout=2)
    count = 0

    @jax.jit
    def counted(keys: jax.Array, images: jax.Array) -> jax.Array:
        nonlocal count
        count += 1
        return augment(keys, images)

    for seed in range(3):
        counted(jax.random.split(jax.random.key(seed), COUNT), IMAGES)
    assert count == 1


@pytest.mark.optimized
def test_they_act_in_the_order_of_the_keys():
    """A square cut out last is blank whatever came before; brightness first adds to all."""
    seen = changed(brightness=0.2, cutout=8)
    blank = (seen == np.asarray((0.25, 0.5, 0.75), np.float32)).all(axis=3)
    assert blank.any(axis=(1, 2)).all()
    rest = np.where(blank[..., None], np.nan, seen - IMAGES).reshape(COUNT, -1)
    left = ~np.isnan(rest).all(axis=1)
    assert np.nanmax(np.nanmax(rest[left], axis=1) - np.nanmin(rest[left], axis=1)) < 1e-6


def test_switching_one_on_leaves_the_draws_of_the_others():
    mirrored = changed(mirror=0.5)
    both = changed(mirror=0.5, channel_gain=0.3)
    gains = both / mirrored
    assert np.ptp(gains, axis=(1, 2)).max() < 1e-5
    np.testing.assert_allclose(gains, changed(channel_gain=0.3) / IMAGES, rtol=1e-5)


def test_each_has_random_numbers_of_its_own():
    """Mirrored and darkened would be the same images, did both act on one draw."""
    images = np.broadcast_to(np.asarray((0.25, 0.5), np.float32).reshape(1, 1, 2, 1), (COUNT, 1, 2, 1))
    seen = np.asarray(jax.jit(augment_of(mirror=0.5, brightness=0.2))(keys(), images))[:, 0, :, 0]
    mirrored, darkened = seen[:, 0] > seen[:, 1], seen.sum(axis=1) < 0.75
    assert 4 < (mirrored == darkened).sum() < COUNT - 4


def test_fill_is_black_the_mean_or_the_edge():
    images = np.full((COUNT, 4, 4, 3), 0.875, np.float32)
    for fill, color in (("black", (0, 0, 0)), ("mean", (0.25, 0.5, 0.75)), ("edge", (0.875, 0.875, 0.875))):
        for switch in ({"shift": 2}, {"scale": (0.5, 0.5)}):
            seen = np.asarray(jax.jit(augment_of(fill=fill, **switch))(keys(), images))
            colors = {tuple(each) for each in np.unique(seen.reshape(-1, 3), axis=0).tolist()}
            assert colors == {(0.875, 0.875, 0.875), tuple(color)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mirror", -0.1),
        ("mirror", 1.5),
        ("mirror", float("nan")),
        ("crop_area", (0.0, 1.0)),
        ("crop_area", (0.9, 0.5)),
        ("crop_area", (0.5, 1.5)),
        ("crop_area", (0.5,)),
        ("crop_aspect", (1.3, 0.7)),
        ("crop_aspect", (0.0, 1.0)),
        ("shift", -1),
        ("rotate", 181.0),
        ("shear", 90.0),
        ("scale", (0.0, 1.0)),
        ("scale", (1.2, 0.8)),
        ("fill", "white"),
        ("mirror_mode", "alternate"),
        ("brightness", -0.1),
        ("contrast", 1.1),
        ("channel_gain", 2.0),
        ("saturation", -1.0),
        ("pca_noise", -0.1),
        ("cutout", -2),
        ("erase", 1.1),
        ("mixup", -1.0),
        ("cutmix", float("inf")),
    ],
)
def test_a_number_out_of_range_names_its_key(key: str, value: Any):
    config = default.get_config()
    config.augment[key] = value
    for make in (lambda: make_augment(config.augment, (0.0,)), lambda: make_mix(config.augment)):
        with pytest.raises(UsageError, match=rf"config\.augment\.{key}\b") as error:
            make()
        assert "\n" not in str(error.value)


def test_every_key_is_checked():
    from cnnjax.augment.check import _RULES

    assert set(_RULES) | {"fill", "mirror_mode"} == set(default.get_config().augment)


@pytest.mark.parametrize(
    ("key", "value", "shape"),
    [
        ("shift", 4, (4, 8, 3)),
        ("cutout", 5, (8, 4, 3)),
        ("saturation", 0.5, (8, 8, 1)),
        ("pca_noise", 0.1, (8, 8, 1)),
    ],
)
def test_images_that_do_not_suit_are_told_before_compiling(key: str, value: Any, shape: tuple[int, ...]):
    with pytest.raises(UsageError, match=rf"config\.augment\.{key}\b"):
        jax.eval_shape(augment_of(**{key: value}), keys()[:2], jnp.zeros((2, *shape)))
