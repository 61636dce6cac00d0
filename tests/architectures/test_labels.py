# SPDX-License-Identifier: Apache-2.0
import itertools
import random

import pytest

from cnnjax.architectures.labels import Box, Bubble, leader, overlap, place_labels

AREA = Box(0, 0, 600, 300)


def test_overlap_is_the_shared_area():
    assert overlap(Box(0, 0, 4, 3), Box(3, 1, 9, 9)) == 1 * 2
    assert overlap(Box(0, 0, 4, 3), Box(4, 0, 1, 1)) == 0
    assert overlap(Box(0, 0, 4, 3), Box(5, 0, 1, 3), gap=2) == 1 * 5


@pytest.mark.parametrize("seed", range(4))
def test_names_stay_apart_and_within_the_area(seed: int):
    draw = random.Random(seed)
    bubbles = [Bubble(draw.gauss(300, 60), draw.gauss(150, 30), draw.uniform(1, 20)) for _ in range(25)]
    boxes = place_labels(bubbles, [(draw.uniform(20, 60), 8)] * 25, AREA)
    found = [box for box in boxes if box is not None]
    assert len(found) >= 23
    assert all(overlap(a, b) == 0 for a, b in itertools.combinations(found, 2))
    assert all(b.x >= 0 and b.y >= 0 and b.x + b.w <= 600 and b.y + b.h <= 300 for b in found)


def test_a_lone_name_stands_by_its_bubble_or_in_it_and_needs_no_line():
    for r, inside in ((5, False), (40, True)):
        bubble = Bubble(300, 150, r)
        (box,) = place_labels([bubble], [(40, 8)], AREA)
        assert box is not None and leader(bubble, box) is None
        assert (overlap(box, Box(299, 149, 2, 2)) > 0) == inside


def test_a_far_name_has_a_line_from_the_edge_to_the_box():
    assert leader(Bubble(0, 0, 5), Box(30, -4, 20, 8)) == (5, 0, 30, 0)


def test_where_there_is_no_room_there_is_no_name():
    assert place_labels([Bubble(5, 5, 2)], [(40, 8)], Box(0, 0, 10, 10)) == [None]
    same = place_labels([Bubble(25, 6, 1)] * 9, [(40, 8)] * 9, Box(0, 0, 60, 20))
    assert any(box is None for box in same)
