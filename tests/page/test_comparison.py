# SPDX-License-Identifier: Apache-2.0
"""Runs on one page: grouped over seeds, with mean and standard deviation by hand."""

import json
import re

import pytest

from cnnjax.errors import RunError
from cnnjax.page.comparison import common_folder, write_comparison
from cnnjax.page.groups import make_groups
from cnnjax.page.record import read_run


@pytest.fixture
def paths(write_run):
    """Two seeds of one config, and another config."""
    return [
        write_run("fast_0", "seed=0", accuracy=0.80),
        write_run("fast_1", "seed=1", accuracy=0.90),
        write_run("slow", "optimizer.learning_rate=0.01", accuracy=0.95),
    ]


def test_runs_that_differ_in_the_seed_are_a_group(paths):
    slow, fast = make_groups([read_run(path) for path in paths])
    assert (slow.name, fast.name) == ("slow", "fast")
    assert [run.config.seed for run in fast.runs] == [0, 1]
    assert fast.mean == pytest.approx(0.85) and fast.std == pytest.approx(0.0707107, abs=1e-6)
    assert slow.std != slow.std  # one run has no spread


def test_groups_without_telling_folders_are_named_by_their_config(write_run):
    runs = [
        read_run(write_run(f"{folder}/{i}", f"seed={i}", f"optimizer.learning_rate={rate}"), str(i))
        for folder, rate in (("a", 0.1), ("b", 0.2))
        for i in (0, 1)
    ]
    assert {group.name for group in make_groups(runs)} == {"learning_rate=0.1", "learning_rate=0.2"}


def test_the_page(paths, tmp_path):
    page = write_comparison(paths, tmp_path / "out/page.html").read_text()
    assert "3 runs compared" in page and "best test accuracy" in page
    row = re.search(r'<th scope="row">fast</th>(.*?)</tr>', page)
    assert row and re.findall(r"<td[^>]*>(.*?)</td>", row[1])[:3] == ["2", "85.00%", "7.07%"]
    keys = re.findall(r'<th scope="row"><code>(.*?)</code></th>', page)
    assert keys == ["optimizer.learning_rate"]


def test_curves_lie_over_each_other(paths, tmp_path):
    page = write_comparison(paths, tmp_path / "page.html").read_text()
    charts = [json.loads(c) for c in re.findall(r'<script type="application/json">(.*?)</script>', page)]
    loss = next(chart for chart in charts if chart["title"] == "Loss, training")
    assert [(s["name"], len(s["lines"])) for s in loss["series"]] == [("slow", 1), ("fast", 2)]
    assert [line["label"] for line in loss["series"][1]["lines"]] == ["seed 0", "seed 1"]


def test_broken_runs_are_named_and_left_out(paths, tmp_path):
    (paths[0] / "config.json").write_text("{")
    page = write_comparison(paths, tmp_path / "page.html").read_text()
    assert "2 runs compared" in page and "Left out: cannot read" in page
    for path in paths:
        (path / "config.json").write_text("{")
    with pytest.raises(RunError, match="none of the 3 runs"):
        write_comparison(paths, tmp_path / "page.html")


def test_runs_without_a_result_come_last(write_run):
    none = read_run(write_run("none", "seed=3", "data.batch_size=8", finished=False, num_records=5))
    some = read_run(write_run("some"))
    assert [group.name for group in make_groups([none, some])] == ["some", "none"]


def test_a_validation_result_does_not_enter_a_mean_over_test_results(write_run):
    runs = [read_run(write_run("x_0", "seed=0", accuracy=0.5, finished=False)), read_run(write_run("x_1", "seed=1"))]
    (group,) = make_groups(runs)
    assert group.judged_by == ("accuracy", "test") and group.results == (pytest.approx(20 / 24),)


def test_the_common_folder(tmp_path):
    assert common_folder([tmp_path / "a/b", tmp_path / "a/c"]) == (tmp_path / "a").resolve()
