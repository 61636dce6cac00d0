# SPDX-License-Identifier: Apache-2.0
import numpy as np

from cnnjax.data.crop import make_box

AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)


def test_boxes_have_the_area_and_the_aspect_that_were_asked_for():
    box = make_box(AREA, ASPECT)
    boxes = np.array([box(0, 0, example, 500, 400) for example in range(400)])
    top, left, height, width = boxes.T
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 500).all() and (left + width <= 400).all()
    share, aspect = height * width / 200_000, width / height
    assert 0.075 < share.min() < 0.12 and 0.9 < share.max() <= 1
    assert 0.74 < aspect.min() < 0.8 and 1.2 < aspect.max() < 1.35
    assert len(set(map(tuple, boxes))) > 390
    assert abs(np.mean(left / np.maximum(400 - width, 1)) - 0.5) < 0.1


def test_a_box_is_a_function_of_seed_epoch_and_example():
    drawn = [make_box(AREA, ASPECT)(*key, 300, 300) for key in ((0, 0, 5), (1, 0, 5), (0, 1, 5), (0, 0, 6))]
    assert len(set(drawn)) == 4
    assert make_box(AREA, ASPECT)(0, 1, 5, 300, 300) == drawn[2]


def test_where_no_box_fits_the_largest_about_the_centre_is_taken():
    assert make_box((1.0, 1.0), (1.0, 1.0))(0, 0, 0, 100, 60) == (20, 0, 60, 60)
    assert make_box((1.0, 1.0), (0.5, 0.5))(0, 0, 0, 60, 100) == (0, 35, 60, 30)
    assert make_box((0.5, 1.0), ASPECT)(0, 0, 0, 1, 1) == (0, 0, 1, 1)
