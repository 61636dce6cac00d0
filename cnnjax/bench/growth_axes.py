# SPDX-License-Identifier: Apache-2.0
"""The axes along which cost grows, and the measurements along one of them."""

from typing import Any, NamedTuple


class Point(NamedTuple):
    """A training step to be measured."""

    batch_size: int
    side: int  # of the square image
    depth: int  # 0: the network has none
    examples: int


class Axis(NamedTuple):
    """What grows while the rest stays.

    Attributes:
      name: of the axis.
      field: of Point.
      values: ascending.
      unit: of one value, to divide time by.
      expected: what theory says of time and memory.
    """

    name: str
    field: str
    values: tuple[int, ...]
    unit: str
    expected: str


def axes(base: Point) -> tuple[Axis, ...]:
    """The four axes, or three for a network without depth, around `base`."""
    batches = tuple(base.batch_size * 2**i // 4 for i in range(6))
    found = [
        Axis("batch size", "batch_size", batches, "image", "time of an image falls, then is flat; memory linear"),
        Axis(
            "image size", "side", tuple(base.side * n // 4 for n in (2, 3, 4, 6, 8)), "pixel", "time of a pixel is flat"
        ),
        Axis("depth", "depth", (8, 14, 20, 32, 56), "layer", "time of a layer is flat; memory linear"),
        Axis(
            "data set size",
            "examples",
            tuple(base.examples * 4**i for i in range(4)),
            "step",
            "time and a step's own memory are flat; the set lies in memory",
        ),
    ]
    return tuple(axis for axis in found if axis.field != "depth" or base.depth)


def base_point(config: Any) -> Point:
    """The point around which the axes run, from the config."""
    return Point(config.data.batch_size, 32, getattr(config.model, "depth", 0) or 0, 1024)


def series(document: dict[str, Any], axis: Axis) -> list[tuple[int, dict[str, Any]]]:
    """(value, measurement) along an axis, the rest at the base."""
    base = Point(*document["base"])
    by_point = {tuple(point["point"]): point for point in document["points"]}
    return [(value, by_point[tuple(base._replace(**{axis.field: value}))]) for value in axis.values]


def per_unit(axis: Axis, point: Point, seconds: float) -> float:
    """The seconds of a step for one unit of the axis: an image, a pixel of one image, a layer, or the step."""
    if axis.field == "batch_size":
        return seconds / point.batch_size
    if axis.field == "side":
        return seconds / (point.batch_size * point.side**2)
    return seconds / point.depth if axis.field == "depth" else seconds
