# SPDX-License-Identifier: Apache-2.0
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.augment import erase

WHITE = np.ones((1, 1, 1), np.float32)


def draws(augmentation: Any, image: jax.Array, count: int, **numbers: Any) -> np.ndarray:
    """[count,H,W,C]: the image as `count` keys change it."""
    keys = jax.random.split(jax.random.key(0), count)
    changed = jax.jit(jax.vmap(functools.partial(augmentation, **numbers), (0, None)))(keys, image)
    assert changed.dtype == jnp.float32
    return np.asarray(changed)


def boxes(erased: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(top, left, height, width) of what is erased [N,H,W]: each must be one full rectangle."""
    found = []
    for mask in erased:
        y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask[y[0] : y[-1] + 1, x[0] : x[-1] + 1].all()
        found.append((int(y[0]), int(x[0]), len(y), len(x)))
    return found


def test_inside_box_may_hang_over_the_border():
    box = np.asarray(erase.inside_box((3, 4), -1, 2, 3, 5))[..., 0]
    assert box.tolist() == [[False, False, True, True], [False, False, True, True], [False] * 4]


@pytest.mark.parametrize(
    ("size", "along"),
    [
        (2, {(0, 1), (0, 2), (1, 2), (2, 2)}),  # centre at the lower right of the middle four: from one pixel before it
        (3, {(0, 2), (0, 3), (1, 3), (2, 2)}),
    ],
)
def test_cutout_blanks_a_square_about_each_pixel(size: int, along: set[tuple[int, int]]):
    """`along` holds, for an axis of 4 pixels, the (first, length) that the 4 possible centres blank."""
    seen = boxes(draws(erase.cutout, jnp.zeros((4, 4, 3)), 1600, size=size, color=WHITE)[..., 0] == 1)
    counts = {box: seen.count(box) for box in set(seen)}
    assert {(top, height) for top, _, height, _ in counts} == along
    assert {(left, width) for _, left, _, width in counts} == along
    assert len(counts) == 16
    assert min(counts.values()) > 65 and max(counts.values()) < 140


def test_cutout_leaves_the_rest_and_takes_the_color():
    image = jax.random.uniform(jax.random.key(0), (4, 4, 3))
    color = np.asarray((0.1, 0.2, 0.3), np.float32).reshape(1, 1, 3)
    changed = draws(erase.cutout, image, 1, size=2, color=color)[0]
    blank = (changed == color).all(axis=2)
    assert 1 <= blank.sum() <= 4
    np.testing.assert_array_equal(changed[~blank], np.asarray(image)[~blank])


def test_random_erasing_fills_a_rectangle_of_the_papers_sizes():
    image = jnp.full((32, 32, 3), 2.0)  # outside the range of the noise
    changed = draws(erase.random_erasing, image, 500, probability=1.0)
    erased = changed[..., 0] != 2
    np.testing.assert_array_equal(changed[~erased], 2)
    found = np.asarray(boxes(erased))
    area, ratio = found[:, 2] * found[:, 3] / 1024, found[:, 2] / found[:, 3]
    assert 0.015 < area.min() < 0.04 and 0.37 < area.max() < 0.42  # sides are rounded
    assert 0.2 < ratio.min() < 0.45 and 2.8 < ratio.max() < 4
    assert (found[:, :2].min(axis=0) == 0).all() and ((found[:, 0] + found[:, 2]).max() == 32)
    noise = changed[erased]
    levels = noise * 255
    assert abs(levels - np.round(levels)).max() < 1e-3
    assert noise.min() == 0 and noise.max() == 1
    assert noise.mean() == pytest.approx(0.5, abs=0.005)
    assert noise.std() == pytest.approx(np.sqrt(1 / 12), abs=0.005)


def test_random_erasing_has_its_probability():
    changed = draws(erase.random_erasing, jnp.full((8, 8, 1), 2.0), 1000, probability=0.25)
    assert 0.2 < (changed != 2).any(axis=(1, 2, 3)).mean() < 0.3


def test_noise_has_independent_channels():
    noise = np.asarray(erase.noise(jax.random.key(0), 64, 64, 5)).reshape(-1, 5)
    assert noise.dtype == np.float32
    assert abs(np.corrcoef(noise.T) - np.eye(5)).max() < 0.06
