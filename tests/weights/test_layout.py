# SPDX-License-Identifier: Apache-2.0
"""Layouts against hand-written arrays, and against what a flatten followed by a dense layer computes."""

import numpy as np
import pytest

from cnnjax.weights.layout import Layout, theirs_shape, to_ours, to_theirs

CASES = [
    (Layout("same"), (5,)),
    (Layout("same"), ()),
    (Layout("conv"), (3, 2, 4, 6)),
    (Layout("dense"), (4, 3)),
    (Layout("flatten", 2), (2 * 2 * 3, 5)),
    (Layout("window", 2), (2 * 2 * 3, 5)),
]


@pytest.mark.parametrize(("layout", "shape"), CASES)
def test_out_and_in_again_is_the_same_and_of_the_shape_foretold(layout, shape):
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    theirs = to_theirs(layout, array)
    assert theirs.shape == theirs_shape(layout, shape)
    back = to_ours(layout, theirs)
    assert back.shape == shape
    np.testing.assert_array_equal(back, array)
    assert theirs.flags.c_contiguous and back.flags.c_contiguous


def test_a_convolution_kernel_by_hand():
    theirs = np.arange(2 * 3 * 1 * 2).reshape(2, 3, 1, 2)  # [O,I,h,w]
    ours = to_ours(Layout("conv"), theirs)
    assert ours.shape == (1, 2, 3, 2)
    assert ours[0, 1, 2, 1] == theirs[1, 2, 0, 1] == 11


@pytest.mark.parametrize("kind", ["flatten", "window"])
def test_a_dense_layer_sees_the_same_pixels_in_either_order(kind):
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((1, 2, 2, 3))  # [B,H,W,C]
    weight = rng.standard_normal((4, 3, 2, 2))  # [O,C,H,W]
    stored = weight if kind == "window" else weight.reshape(4, 12)
    there = maps.transpose(0, 3, 1, 2).reshape(1, 12) @ weight.reshape(4, 12).T
    here = maps.reshape(1, 12) @ to_ours(Layout(kind, 2), stored)
    np.testing.assert_allclose(here, there, rtol=1e-12)
    assert not np.allclose(maps.reshape(1, 12) @ weight.reshape(4, 12).T, there)  # the order matters here
