# SPDX-License-Identifier: Apache-2.0
"""Names beside bubbles, none upon another: tries places around each bubble and moves the names by turns."""

import math
from collections.abc import Sequence
from typing import NamedTuple

DIRECTIONS = 16
DISTANCES = (0.0, 3.0, 8.0, 14.0, 22.0, 32.0, 44.0, 58.0, 76.0)  # from the bubble's edge, in the unit of the picture
GAP = 1.5  # between a name and what is near it
ROUNDS = 6


class Bubble(NamedTuple):
    """A circle, by its centre and radius."""

    x: float
    y: float
    r: float


class Box(NamedTuple):
    """A rectangle, by its lowest coordinates and its size."""

    x: float
    y: float
    w: float
    h: float


def overlap(a: Box, b: Box, gap: float = 0.0) -> float:
    """The area that two boxes share when each is `gap` / 2 larger on every side."""
    width = min(a.x + a.w, b.x + b.w) - max(a.x, b.x) + gap
    height = min(a.y + a.h, b.y + b.h) - max(a.y, b.y) + gap
    return max(width, 0.0) * max(height, 0.0)


def place_labels(bubbles: Sequence[Bubble], sizes: Sequence[tuple[float, float]], area: Box) -> list[Box | None]:
    """A place for the name of each bubble.

    Args:
      bubbles: n of them.
      sizes: (width, height) of each name.
      area: that no name leaves.

    Returns:
      n boxes that do not overlap; None where there is no room.
    """
    choices = [_candidates(bubble, size, area) for bubble, size in zip(bubbles, sizes, strict=True)]
    # What does not depend on other names is weighed once.
    fixed = [[_standing_cost(i, box, bubbles) for box in boxes] for i, boxes in enumerate(choices)]
    placed: list[Box | None] = [None] * len(bubbles)
    order = sorted(range(len(bubbles)), key=lambda i: (min(fixed[i], default=0.0), i), reverse=True)
    for _ in range(ROUNDS):
        before = list(placed)
        for i in order:
            others = [(box, bubbles[j]) for j, box in enumerate(placed) if box is not None and j != i]
            costs = [
                cost + _crowding_cost(box, bubbles[i], others) for box, cost in zip(choices[i], fixed[i], strict=True)
            ]
            best = min(range(len(costs)), key=costs.__getitem__, default=None)
            placed[i] = None if best is None else choices[i][best]
        if placed == before:
            break
    for i in sorted(order, key=lambda i: -bubbles[i].r):
        box = placed[i]
        if box and any(overlap(box, other) for j, other in enumerate(placed) if other and j != i):
            placed[i] = None
    return placed


def leader(bubble: Bubble, box: Box) -> tuple[float, float, float, float] | None:
    """The line from a bubble's edge to its name, (x, y, x, y), or None where the name stands by it."""
    x = min(max(bubble.x, box.x), box.x + box.w)
    y = min(max(bubble.y, box.y), box.y + box.h)
    length = math.hypot(x - bubble.x, y - bubble.y)
    if length - bubble.r < DISTANCES[2]:
        return None
    share = bubble.r / length
    return bubble.x + share * (x - bubble.x), bubble.y + share * (y - bubble.y), x, y


def _candidates(bubble: Bubble, size: tuple[float, float], area: Box) -> list[Box]:
    width, height = size
    found = []
    if math.hypot(width, height) < 2 * bubble.r:
        found.append(Box(bubble.x - width / 2, bubble.y - height / 2, width, height))
    for distance in DISTANCES:
        for turn in range(DIRECTIONS):
            across, up = math.cos(2 * math.pi * turn / DIRECTIONS), math.sin(2 * math.pi * turn / DIRECTIONS)
            reach = bubble.r + GAP + distance
            # The point of the box that is nearest to the bubble lies at `reach` in this direction.
            x = bubble.x + reach * across - width / 2 + width / 2 * _side(across)
            y = bubble.y + reach * up - height / 2 + height / 2 * _side(up)
            found.append(Box(x, y, width, height))
    right, top = area.x + area.w, area.y + area.h
    return [b for b in found if b.x >= area.x and b.y >= area.y and b.x + b.w <= right and b.y + b.h <= top]


def _side(component: float) -> float:
    """Where along a box's side it touches: in its middle for a direction across to it, else at its corner."""
    return 0.0 if abs(component) < 0.2 else math.copysign(min(1.0, abs(component) / 0.7), component)


def _standing_cost(i: int, box: Box, bubbles: Sequence[Bubble]) -> float:
    own = bubbles[i]
    middle_x, middle_y = box.x + box.w / 2, box.y + box.h / 2
    far = max(0.0, _distance(own, box) - own.r)
    cost = 0.12 * far + (0.3 if middle_x < own.x else 0.0) + (0.4 if abs(middle_y - own.y) > box.h else 0.0)
    line = leader(own, box)
    for j, other in enumerate(bubbles):
        if j == i:
            continue
        within = other.r + GAP - _distance(other, box)
        if within > 0:  # a name may lie on a wide bubble, which is pale, but not hide a small one
            cost += 4.0 + (30.0 if other.r < 2 * box.h else 0.0) + 4.0 * min(1.0, within / box.h)
        if line and _segment_distance(other, line) < other.r:
            cost += 2.0
    return cost


def _crowding_cost(box: Box, own: Bubble, others: Sequence[tuple[Box, Bubble]]) -> float:
    cost = 0.0
    line = leader(own, box)
    for other, bubble in others:
        if shared := overlap(box, other, GAP):
            cost += 100.0 + shared
        if line and _crosses(line, other):
            cost += 25.0
        their = leader(bubble, other)
        if their and _crosses(their, box):
            cost += 25.0
        if line and their and _intersect(line, their):
            cost += 15.0
    return cost


def _distance(bubble: Bubble, box: Box) -> float:
    """From a bubble's centre to a box; 0 within it."""
    across = max(box.x - bubble.x, 0.0, bubble.x - box.x - box.w)
    up = max(box.y - bubble.y, 0.0, bubble.y - box.y - box.h)
    return math.hypot(across, up)


def _segment_distance(bubble: Bubble, line: tuple[float, float, float, float]) -> float:
    x1, y1, x2, y2 = line
    square = (x2 - x1) ** 2 + (y2 - y1) ** 2
    along = ((bubble.x - x1) * (x2 - x1) + (bubble.y - y1) * (y2 - y1)) / square if square else 0.0
    along = min(max(along, 0.0), 1.0)
    return math.hypot(x1 + along * (x2 - x1) - bubble.x, y1 + along * (y2 - y1) - bubble.y)


def _crosses(line: tuple[float, float, float, float], box: Box) -> bool:
    """Whether a segment touches a box (Liang and Barsky's clipping)."""
    x1, y1, x2, y2 = line
    first, last = 0.0, 1.0
    for start, step, low, high in ((x1, x2 - x1, box.x, box.x + box.w), (y1, y2 - y1, box.y, box.y + box.h)):
        if step == 0:
            if not low <= start <= high:
                return False
            continue
        enter, leave = sorted(((low - start) / step, (high - start) / step))
        first, last = max(first, enter), min(last, leave)
    return first <= last


def _intersect(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    def turn(px: float, py: float, line: tuple[float, float, float, float]) -> float:
        return (line[2] - line[0]) * (py - line[1]) - (line[3] - line[1]) * (px - line[0])

    return turn(*a[:2], b) * turn(*a[2:], b) < 0 and turn(*b[:2], a) * turn(*b[2:], a) < 0
