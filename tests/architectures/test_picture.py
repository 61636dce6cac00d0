# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from cnnjax.architectures.picture import arrange, format_count, format_seconds, plot_architectures, radius, round_sizes
from cnnjax.architectures.points import Panel, read_published


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (999.7, "1 k"),
        (40_551_040, "40.6 M"),
        (999_600, "1 M"),
        (25_557_032, "25.6 M"),
        (15_470_264_320, "15.5 G"),
    ],
)
def test_counts_have_three_digits_and_a_prefix(value: float, text: str):
    assert format_count(value) == text


def test_times_have_three_digits_and_a_unit():
    assert [format_seconds(t) for t in (12.34, 0.0012344, 47e-6, 3e-9)] == ["12.3 s", "1.23 ms", "47 µs", "3 ns"]


def test_area_is_parameters():
    assert radius(25, 100, 20) == 10  # a quarter of the parameters, a quarter of the area
    assert radius(1, 1e9, 20) > 1  # still seen
    assert round_sizes(143_667_240) == [1_000_000, 10_000_000, 100_000_000]
    assert round_sizes(9_760) == [50, 500, 5_000] and round_sizes(7) == [1, 1, 5]


def test_panels_with_many_points_have_a_row_of_their_own():
    assert arrange([30, 5, 5, 1]) == [[0], [1, 2, 3]]
    assert arrange([1] * 4) == [[0, 1], [2, 3]]
    assert arrange([1] * 7) == [[0, 1, 2], [3, 4], [5, 6]]


def test_one_figure_as_png_and_as_svg_twice_the_same(tmp_path: Path):
    _, published = read_published()
    points = tuple(point._replace(name=f"<{point.name}> & $x_1$", seconds=1e-3) for point in published["mnist"])
    panels = [Panel("mnist", "MNIST", "accuracy", points), Panel("one", "猫 " * 40, "accuracy", points[:1])]
    for name in ("a.png", "a.svg", "b.svg"):
        plot_architectures(panels, tmp_path / name)
    plot_architectures(panels, tmp_path / "time.png", batch_size=8, machine="a machine")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and image.size[0] == 2100
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "time.png").read_bytes() != (tmp_path / "a.png").read_bytes()
