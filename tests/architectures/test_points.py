# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import pytest

from cnnjax.architectures.points import PAPER, WEIGHTS, Point, make_panels, read_published
from cnnjax.inspect.summary import summarize

SETS, PUBLISHED = read_published()
ALL = {f"{key}: {point.network}": point for key, points in PUBLISHED.items() for point in points}


@pytest.mark.parametrize("name", ALL)
def test_the_file_has_the_parameters_of_the_network(name: str):
    point = ALL[name]
    image = jax.ShapeDtypeStruct((1, *point.image_shape), jnp.float32)
    params, _ = jax.eval_shape(point.model.init, jax.random.key(0), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == point.params


DEEP = ("101", "152", "44", "56", "110", "32,", "50")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * any(f"depth={d}" in name for d in DEEP)) for name in ALL]
)
def test_the_file_has_what_our_counter_counts(name: str):
    point = ALL[name]
    summary = summarize(point.model, point.image_shape, name)
    assert (summary.params, summary.macs) == (point.params, point.macs), "correct published.json"


def test_numbers_as_published():
    by_name = {(point.name, point.kind): point for points in PUBLISHED.values() for point in points}
    # He et al. 2016, table 3: top-1 error 22.85%; torchvision: accuracy 76.13%. GMACs of v1 and v1.5.
    paper, weights = by_name["ResNet-50", PAPER], by_name["ResNet-50", WEIGHTS]
    assert (paper.accuracy, weights.accuracy) == (0.7715, 0.7613)
    assert (paper.params, paper.macs) == (25_557_032, 3_857_973_248)
    assert weights.macs == 4_089_184_256
    assert by_name["LeNet-5", PAPER].accuracy == 0.9905 and by_name["LeNet-5", PAPER].params == 60_000
    assert by_name["ResNet-110", PAPER].accuracy == 0.9357
    assert all(point.source for point in by_name.values())
    assert [len(points) for points in PUBLISHED.values()] == [30, 5, 5, 1]


def a_run(name: str) -> Point:
    return PUBLISHED["mnist"][0]._replace(name=name, kind="run", family="your run")


def test_a_run_joins_the_published_networks_of_its_set_and_no_others():
    ten, two = tuple(map(str, range(10))), ("3", "8")
    panels = make_panels(
        [("mnist", ten, a_run("a")), ("mnist", two, a_run("b")), ("pets", two, a_run("c")), ("mnist", two, a_run("d"))]
    )
    assert [panel.title for panel in panels[:4]] == [known.title for known in SETS.values()]
    assert [panel.title for panel in panels[4:]] == ["mnist, 2 classes", "pets, 2 classes"]
    assert [point.name for point in panels[2].points] == [*(point.name for point in PUBLISHED["mnist"]), "a"]
    assert [[point.name for point in panel.points] for panel in panels[4:]] == [["b", "d"], ["c"]]
    assert len({panel.key for panel in panels}) == len(panels)
