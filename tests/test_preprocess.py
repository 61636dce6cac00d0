# SPDX-License-Identifier: Apache-2.0
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.preprocess import make_prepare
from cnnjax.types import Batch, PrepareFn
from experiments import default

N, K = 24, 5
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 6, 6, 3)).astype(np.uint8)
KEY_SEED = 3


def prepare(mean: Any = (0.0,), std: Any = (1.0,), **augment: Any) -> tuple[PrepareFn, PrepareFn]:
    config = default.get_config()
    config.data.update({"mean": mean, "std": std})
    config.augment.update(augment)
    train, evaluation = make_prepare(config.data, config.augment, K)
    return jax.jit(train), jax.jit(evaluation)


def rows(example: np.ndarray, epoch: int = 0) -> Batch:
    return Batch(
        image=jnp.asarray(PIXELS[example]),
        label=jnp.asarray(example % K, jnp.int32),
        mask=jnp.ones(len(example)),
        example=jnp.asarray(example, jnp.int32),
        epoch=jnp.full(len(example), epoch, jnp.int32),
    )


def with_partner(example: np.ndarray, epoch: int = 0) -> Batch:
    batch = rows(example, epoch)
    batch["partner"] = rows((example + 1) % N, epoch)
    return batch


def run(function: PrepareFn, batch: Batch, seed: int = KEY_SEED) -> Batch:
    return function(jax.random.key(seed), batch)


EVERYONE = np.arange(N)


def test_pixels_become_normalised_floats():
    batch = Batch(image=jnp.asarray([[[[0, 51, 255]]]], jnp.uint8), label=jnp.asarray([2], jnp.int32), mask=jnp.ones(1))
    _, evaluation = prepare(mean=(0.5, 0.2, 0.0), std=(0.5, 0.1, 0.25))
    prepared = run(evaluation, batch)
    assert prepared["image"].dtype == jnp.float32
    np.testing.assert_allclose(prepared["image"].reshape(3), (-1, 0, 4), atol=1e-6)
    _, evaluation = prepare(mean=(0.2,), std=(0.4,))
    np.testing.assert_allclose(run(evaluation, batch)["image"].reshape(3), (-0.5, 0, 2), atol=1e-6)


def test_without_augmentation_training_sees_what_evaluation_sees():
    train, evaluation = prepare(mean=(0.5,), std=(0.25,))
    trained, evaluated = run(train, rows(EVERYONE)), run(evaluation, rows(EVERYONE))
    np.testing.assert_array_equal(trained["image"], evaluated["image"])
    assert trained["label"].dtype == jnp.int32
    np.testing.assert_array_equal(trained["label"], EVERYONE % K)
    assert set(trained) == {"image", "label", "mask", "example", "epoch"}


def test_augmentation_comes_before_normalisation():
    """A pixel shifted in is black: it becomes -mean / std."""
    train, _ = prepare(mean=(0.5,), std=(0.25,), shift=5)
    assert (np.asarray(run(train, rows(EVERYONE))["image"]) == -2).mean() > 0.3


def test_random_numbers_are_of_seed_epoch_and_example():
    train, evaluation = prepare(brightness=0.5)
    added = {}
    for seed, epoch in ((3, 0), (3, 1), (4, 0)):
        seen = np.asarray(run(train, rows(EVERYONE, epoch), seed)["image"] - PIXELS / np.float32(255))
        added[seed, epoch] = seen[:, 0, 0, 0]
        assert len(np.unique(np.round(added[seed, epoch], 5))) == N
    assert abs(np.corrcoef(list(added.values())) - np.eye(3)).max() < 0.5
    np.testing.assert_array_equal(
        run(evaluation, rows(EVERYONE, 0))["image"], run(evaluation, rows(EVERYONE, 1))["image"]
    )


@pytest.mark.optimized
def test_a_row_is_the_same_in_any_batch():
    """Bit for bit, images and labels, mixing included."""
    train, _ = prepare((0.48, 0.45, 0.4), (0.2, 0.3, 0.25), crop_area=(0.3, 0.9), shift=2, mixup=0.5, cutmix=1.0)
    whole = run(train, with_partner(EVERYONE[:8]))
    for size in (1, 3):
        for first in range(0, 8 - size + 1, size):
            part = run(train, with_partner(EVERYONE[first : first + size]))
            for name in ("image", "label"):
                np.testing.assert_array_equal(part[name], whole[name][first : first + size])


def test_mixing_makes_soft_labels_and_drops_the_partner():
    train, _ = prepare(mixup=1.0)
    prepared = run(train, with_partner(EVERYONE))
    assert "partner" not in prepared
    label = np.asarray(prepared["label"])
    assert label.shape == (N, K) and label.dtype == np.float32
    np.testing.assert_allclose(label.sum(axis=1), 1, rtol=1e-6)
    own, other = label[EVERYONE, EVERYONE % K], label[EVERYONE, (EVERYONE + 1) % N % K]
    np.testing.assert_allclose(own + other, 1, rtol=1e-6)
    pixels = PIXELS / np.float32(255)
    share = own.reshape(N, 1, 1, 1)
    np.testing.assert_allclose(prepared["image"], share * pixels + (1 - share) * np.roll(pixels, -1, 0), atol=1e-6)


def test_the_partner_is_augmented_as_it_is_by_itself():
    alone = np.asarray(run(prepare(brightness=0.5)[0], rows(EVERYONE))["image"])
    prepared = run(prepare(brightness=0.5, mixup=1.0)[0], with_partner(EVERYONE))
    share = np.asarray(prepared["label"])[EVERYONE, EVERYONE % K].reshape(N, 1, 1, 1)
    np.testing.assert_allclose(prepared["image"], share * alone + (1 - share) * np.roll(alone, -1, 0), atol=1e-6)


def test_evaluation_neither_augments_nor_mixes():
    _, evaluation = prepare(mirror=1.0, mixup=1.0)
    prepared = run(evaluation, with_partner(EVERYONE))
    np.testing.assert_allclose(prepared["image"], PIXELS / np.float32(255), atol=1e-7)
    assert prepared["label"].dtype == jnp.int32 and "partner" not in prepared


def test_a_partner_without_mixing_is_dropped():
    prepared = run(prepare()[0], with_partner(EVERYONE))
    assert "partner" not in prepared and prepared["label"].ndim == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("mean", (127.5,)), ("mean", (-0.1,)), ("mean", ()), ("std", (0.0,)), ("std", (-0.5,)), ("std", (58.4,))],
)
def test_mean_and_std_out_of_range(key: str, value: tuple[float, ...]):
    with pytest.raises(UsageError, match=rf"config\.data\.{key}\b"):
        prepare(**{key: value})


@pytest.mark.parametrize("key", ["mean", "std"])
def test_mean_and_std_of_a_wrong_length(key: str):
    for function in prepare(**{key: (0.5, 0.5)}, shift=1):
        with pytest.raises(UsageError, match=rf"config\.data\.{key} has 2 numbers .* 3 channel"):
            run(function, rows(EVERYONE))


def test_what_a_training_batch_lacks_is_named():
    with pytest.raises(ValueError, match="'partner'"):
        run(prepare(mixup=1.0)[0], rows(EVERYONE))
    batch = rows(EVERYONE)
    del batch["example"]
    with pytest.raises(ValueError, match="'example'"):
        run(prepare(mirror=0.5)[0], batch)


def test_alternating_flips_mirror_each_image_in_every_second_epoch():
    train, evaluation = prepare(mirror=0.5, mirror_mode="alternating")
    plain = np.asarray(run(evaluation, rows(EVERYONE))["image"])

    def flipped(epoch: int, seed: int = KEY_SEED) -> np.ndarray:
        seen = np.asarray(run(train, rows(EVERYONE, epoch), seed)["image"])
        turned = (seen == plain[:, :, ::-1]).all(axis=(1, 2, 3))
        assert (turned | (seen == plain).all(axis=(1, 2, 3))).all()
        return turned

    first = flipped(0)
    assert 0 < first.sum() < N
    for epoch in range(1, 6):
        np.testing.assert_array_equal(flipped(epoch), first ^ (epoch % 2 == 1))
    assert (flipped(0, seed=9) != first).any()


@pytest.mark.optimized
def test_alternating_flips_leave_the_other_draws_as_they_were():
    numbers: Any = {"shift": 1, "brightness": 0.3}
    (alone, _), (both, _) = prepare(**numbers), prepare(**numbers, mirror=1.0, mirror_mode="alternating")
    np.testing.assert_array_equal(run(both, rows(EVERYONE, 1))["image"], run(alone, rows(EVERYONE, 1))["image"])


@pytest.mark.optimized
def test_noise_is_on_the_input_alone_and_each_row_s_own():
    train, evaluation = prepare(mean=(0.5,), std=(0.25,), noise=0.1, mirror=0.5)
    quiet, _ = prepare(mean=(0.5,), std=(0.25,), mirror=0.5)
    noisy: Any = run(train, rows(EVERYONE))
    assert (
        "clean" in noisy
        and "clean" not in run(evaluation, rows(EVERYONE))
        and "clean" not in run(quiet, rows(EVERYONE))
    )
    np.testing.assert_array_equal(noisy["clean"], run(quiet, rows(EVERYONE))["image"])
    noise = np.asarray(noisy["image"] - noisy["clean"]) * 0.25
    assert abs(noise.mean()) < 0.005 and abs(noise.std() - 0.1) < 0.005  # of 2,592 values
    few = np.array([7, 3])
    np.testing.assert_array_equal(run(train, rows(few))["image"], noisy["image"][few])
    assert not np.array_equal(run(train, rows(few, epoch=1))["image"], noisy["image"][few])


def test_dropped_pixels_are_black_in_all_channels():
    train, _ = prepare(noise_drop=0.25)
    prepared: Any = run(train, rows(EVERYONE))
    black = np.asarray(prepared["image"] == 0).all(axis=-1)
    kept = np.asarray(prepared["image"] == prepared["clean"]).all(axis=-1)
    assert (black | kept).all() and abs(black.mean() - 0.25) < 0.06
    with pytest.raises(UsageError, match=r"config.augment.noise_drop = 1"):
        prepare(noise_drop=1.0)
