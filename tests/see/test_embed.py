# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from cnnjax.see.embed import chance_agreement, neighbour_agreement, pca, tsne

RNG = np.random.default_rng(0)


def test_pca_of_points_with_known_axes():
    # On two orthogonal axes of a space of four, around a centre: 3 along the one, 1 along the other.
    axes = np.array([[3, 4, 0, 0], [0, 0, 0, -5]]) / 5
    plane = np.array([[3, 0], [-3, 0], [0, 1], [0, -1]], np.float64)
    found = pca(plane @ axes + np.array([[7, -2, 1, 0]]))
    np.testing.assert_allclose(found.directions, [[0.6, 0.8, 0, 0], [0, 0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(found.points, plane * [[1, -1]], atol=1e-12)
    np.testing.assert_allclose(found.explained, [0.9, 0.1])


def test_pca_is_scikit_learns():
    from sklearn.decomposition import PCA

    x = RNG.normal(size=(50, 7)) * np.arange(1, 8)
    theirs, ours = PCA(3).fit(x), pca(x, 3)
    np.testing.assert_allclose(ours.explained, theirs.explained_variance_ratio_)
    np.testing.assert_allclose(np.abs(ours.points), np.abs(theirs.transform(x)), atol=1e-10)


def test_pca_of_what_has_no_variance_and_of_too_little():
    assert not pca(np.ones((5, 3))).explained.any()
    with pytest.raises(ValueError, match="fewer than 2"):
        pca(np.ones((5, 1)))


def test_neighbours_that_agree_by_hand():
    points, label = np.array([[0.0], [1.0], [3.0], [10.0]]), np.array([0, 0, 1, 1])
    # The nearest of 0 is 1 (same class), of 1 is 0 (same), of 3 is 1 (other), of 10 is 3 (same).
    assert neighbour_agreement(points, label, k=1) == 0.75
    # Two nearest: 0: {1, 3}, 1: {0, 3}, 3: {1, 0}, 10: {3, 1}.
    assert neighbour_agreement(points, label, k=2) == pytest.approx((0.5 + 0.5 + 0 + 0.5) / 4)


def test_more_points_than_a_block_and_none_its_own_neighbour():
    x, label = RNG.normal(size=(1100, 3)), RNG.integers(0, 4, 1100)
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :10]
    assert neighbour_agreement(x, label) == pytest.approx(np.mean(label[nearest] == label[:, None]))
    assert chance_agreement(label) == pytest.approx(0.25, abs=0.005)
    assert chance_agreement(np.array([0, 0, 1])) == pytest.approx(2 / 6)


def test_tsne_keeps_groups_apart_and_is_repeatable():
    label = np.repeat(np.arange(3), 20)
    x = RNG.normal(size=(60, 80)) + 8 * np.eye(3, 80)[label]
    points = tsne(x, seed=1)
    assert points.shape == (60, 2)
    assert neighbour_agreement(points, label) > 0.95
    np.testing.assert_array_equal(points, tsne(x, seed=1))
