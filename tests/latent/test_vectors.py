# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.latent.control import mean_effect, sweep_effect
from cnnjax.latent.quality import pca_reconstruction, psnr_of, quality
from cnnjax.latent.vectors import along, attribute_vector, between, nearest, random_vectors
from cnnjax.see.embed import pca


def test_the_difference_of_means_by_hand():
    latent, has = np.array([[1.0, 0.0], [3.0, 2.0], [0.0, 5.0]]), np.array([True, True, False])
    np.testing.assert_allclose(attribute_vector(latent, has), [2, -4])
    with pytest.raises(UsageError, match="unknown --direction 'median'; did you mean 'mean'"):
        attribute_vector(latent, has, "median")


def test_the_logistic_direction_leaves_alone_what_only_goes_with_the_attribute():
    rng = np.random.default_rng(0)
    has = np.arange(2000) % 2 == 1
    # The first number is the attribute; the second follows it, with noise that the first one does not have.
    first = has + rng.normal(0, 0.3, 2000)
    latent = np.stack([first, 3 * first + rng.normal(0, 3, 2000), np.full(2000, 7.0)], axis=1)
    mean, logistic = (attribute_vector(latent, has, direction) for direction in ("mean", "logistic"))
    assert mean[1] > 2.5 and abs(logistic[1]) < 0.1 * logistic[0]
    assert logistic[2] == 0
    # As long as the means are apart along it.
    unit = logistic / np.linalg.norm(logistic)
    np.testing.assert_allclose(logistic @ unit, mean @ unit, rtol=1e-6)


def test_steps_and_neighbours_by_hand():
    moved = along(np.array([[1.0, 2.0]]), np.array([10.0, 0.0]), np.array([-1.0, 0.0, 0.5]))
    np.testing.assert_allclose(moved, [[[-9, 2], [1, 2], [6, 2]]])
    np.testing.assert_allclose(between(np.array([0.0, 4.0]), np.array([8.0, 0.0]), 3), [[0, 4], [4, 2], [8, 0]])
    rows = np.array([[0.0, 0.0], [5.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(nearest(np.array([[0.9, 0.9], [0.0, 0.0]]), rows, 3), [[2, 0, 3], [0, 3, 2]])


def test_random_vectors_have_one_length_and_no_direction():
    drawn = random_vectors(3, 2.5, 4000, seed=1)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 2.5)
    assert np.abs(drawn.mean(axis=0)).max() < 0.1
    np.testing.assert_array_equal(drawn, random_vectors(3, 2.5, 4000, seed=1))


def test_quality_by_hand():
    image = np.zeros((2, 12, 12, 1), np.uint8)
    recon = np.stack([np.zeros((12, 12, 1)), np.full((12, 12, 1), 0.1)]).astype(np.float32)
    np.testing.assert_allclose(psnr_of(image / 255, recon), [100, 20], rtol=1e-5)
    found = quality(image, recon)
    np.testing.assert_allclose(found, [60, (1 + 1e-4 / (0.01 + 1e-4)) / 2], rtol=1e-4)


def test_pca_is_that_of_the_training_pictures():
    rng = np.random.default_rng(0)
    train = rng.integers(40, 200, (30, 3, 3, 1)).astype(np.uint8)
    image = rng.integers(40, 200, (4, 3, 3, 1)).astype(np.uint8)
    rows, mean = train.reshape(30, 9) / 255, train.reshape(30, 9).mean(axis=0) / 255
    directions = pca(rows, 2).directions
    wanted = mean + (image.reshape(4, 9) / 255 - mean) @ directions.T @ directions
    found = pca_reconstruction(train, image, 2, seed=0)
    assert found is not None and wanted.min() > 0 and wanted.max() < 1
    np.testing.assert_allclose(found.reshape(4, 9), wanted, atol=1e-5)
    assert pca_reconstruction(train, image, 10, seed=0) is None


def test_the_effect_of_a_vector_on_planted_pictures():
    """Pictures are their latents, 2 pixels; the attribute is a first pixel above 0.5."""
    originals = np.array([[0.0, 0.2], [0.4, 0.8], [0.45, 0.2]]).reshape(3, 1, 2, 1)

    def decode(latent: np.ndarray) -> np.ndarray:
        return latent.reshape(-1, 1, 2, 1)

    def judge(pictures: np.ndarray) -> np.ndarray:
        return pictures[:, 0, 0, 0]

    rows = sweep_effect(
        decode,
        originals.reshape(3, 2)[:2],
        np.array([0.4, 0.0]),
        (0.0, 1.0),
        originals=originals,
        own=np.array([0, 1]),
        judge=judge,
    )
    # At strength 1 the first is nearest to the third picture; the mean square is 0.4^2 / 2.
    assert [row["rate"] for row in rows] == [0.0, 0.5] and [row["same"] for row in rows] == [1.0, 0.5]
    np.testing.assert_allclose([row["psnr"] for row in rows], [100, -10 * np.log10(0.08)])
    other = [{**row, "rate": row["rate"] + 0.5} for row in rows]
    merged = mean_effect([rows, other])[1]
    assert (merged["strength"], merged["rate"], merged["lowest_rate"], merged["highest_rate"]) == (1.0, 0.75, 0.5, 1.0)
