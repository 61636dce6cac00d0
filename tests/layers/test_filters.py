# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.layers import KERNELS, apply_filter

STEP = np.repeat(np.array([[0, 0, 0, 100, 100, 100]], np.uint8), 5, axis=0)[:, :, None]  # an edge in the middle


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("box_blur", [0, 33, 67, 100]),
        ("gaussian", [6, 31, 69, 94]),
        ("edge_4", [0, 0, 100, 0]),
        ("edge_4_negative", [0, 100, 0, 0]),
        ("edge_8", [0, 0, 255, 0]),
        ("sharpen", [0, 0, 200, 100]),
        ("sobel_x", [0, 255, 255, 0]),
        ("sobel_y", [0, 0, 0, 0]),
        ("emboss", [0, 255, 255, 100]),
    ],
)
def test_an_edge_under_each_kernel(name, row):
    out = apply_filter(STEP, name)
    assert out.dtype == np.uint8 and out[2, 1:5, 0].tolist() == row


def test_every_kernel_is_tested_and_keeps_or_removes_a_flat_picture():
    flat = np.full((6, 6, 3), 80, np.uint8)
    for name, rows in KERNELS.items():
        assert set(np.unique(apply_filter(flat, name))) == {80 * round(np.sum(rows))}, name


def test_channels_are_filtered_by_themselves_and_floats_stay_floats():
    image = np.concatenate([STEP, STEP[:, ::-1], np.zeros_like(STEP)], axis=2)
    out = apply_filter(image, "edge_4")
    assert out[2, 1:5].T.tolist() == [[0, 0, 100, 0], [0, 100, 0, 0], [0, 0, 0, 0]]
    out = apply_filter(STEP.astype(np.float64), "box_blur")
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[2, 1:5, 0], [0, 100 / 3, 200 / 3, 100], rtol=1e-5)


@pytest.mark.parametrize(("edge", "first"), [("replicate", 10), ("reflect", 20), ("zero", 0)])
def test_what_stands_in_beyond_the_border(edge, first):
    image = np.array([[10, 20, 30]], np.uint8)[:, :, None]
    assert apply_filter(image, ((1, 0, 0),), edge=edge)[0, :, 0].tolist() == [first, 10, 20]


def test_an_even_kernel_reaches_down_and_to_the_right():
    image = np.array([[1, 2], [3, 4]], np.uint8)[:, :, None]
    assert apply_filter(image, ((0, 0), (0, 1)))[:, :, 0].tolist() == [[4, 4], [4, 4]]


@pytest.mark.parametrize(
    ("kernel", "edge", "message"),
    [
        ("sharpn", "replicate", "unknown kernel 'sharpn'; did you mean 'sharpen'?"),
        ("sharpen", "wrap", "unknown edge 'wrap'"),
        (((1.0,) * 7,), "replicate", "the kernel is 1x7 and the picture 5x6 pixels"),
        (((np.inf,),), "replicate", "rows of finite numbers"),
        ((1.0, 2.0), "replicate", "rows of finite numbers"),
    ],
)
def test_what_cannot_be_applied_is_told(kernel, edge, message):
    with pytest.raises(UsageError) as error:
        apply_filter(STEP, kernel, edge=edge)
    assert message in str(error.value)
