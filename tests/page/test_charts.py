# SPDX-License-Identifier: Apache-2.0
"""What the charts carry: the numbers, few enough, and a sentence for those who do not see them."""

import json
import math
import re

import numpy as np

from cnnjax.page.charts import DotRow, Line, Series, chart, dots, reliability, stacked_bar
from cnnjax.protocols.calibration import calibrate


def data_of(shown: str) -> dict:
    found = re.search(r'<script type="application/json">(.*?)</script>', shown, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_values_that_are_not_finite_are_left_out():
    shown = chart("Loss", [Series("training", 0, (Line([1, 2, 3], [1.0, math.nan, 3.0]),))], x_label="epoch")
    line = data_of(shown)["series"][0]["lines"][0]
    assert (line["x"], line["y"]) == ([1.0, 3.0], [1.0, 3.0])


def test_long_lines_are_thinned_to_means_of_neighbours():
    x = np.arange(6000.0)
    line = data_of(chart("Loss", [Series("a", 0, (Line(x, x),))], x_label="step"))["series"][0]["lines"][0]
    assert len(line["x"]) == 1500 and line["y"][:2] == [1.5, 5.5]


def test_many_lines_share_the_points():
    lines = tuple(Line(np.arange(1000.0), np.ones(1000)) for _ in range(60))
    first = data_of(chart("Loss", [Series("a", 0, lines)], x_label="step"))["series"][0]["lines"][0]
    assert len(first["x"]) <= 200


def test_only_wide_positive_values_get_a_logarithmic_axis():
    def is_log(y: list[float]) -> bool:
        return data_of(chart("Loss", [Series("a", 0, (Line([1, 2], y),))], x_label="step", log=True))["log"]

    assert is_log([0.01, 1.0]) and not is_log([0.5, 1.0]) and not is_log([0.0, 1.0])


def test_a_hostile_name_cannot_end_the_script():
    shown = chart("Loss", [Series("</script><script>alert(1)", 0, (Line([1], [1.0]),))], x_label="step")
    assert "<script>alert" not in shown and data_of(shown)["series"][0]["name"].startswith("</script>")


def test_a_chart_is_told_in_words():
    shown = chart("Accuracy", [Series("test", 2, (Line([1, 2], [0.5, 0.9]),))], x_label="epoch", form="percent")
    assert "Accuracy by epoch: test ends at 90.00%, between 50.00% and 90.00%." in shown


def test_an_empty_chart_is_drawn_as_such():
    assert "nothing recorded" in chart("Loss", [], x_label="step")


def test_reliability_has_a_bar_for_each_bin_with_examples():
    found = calibrate(np.array([0.1, 0.5, 0.99, 0.98]), np.array([True, False, True, True]))
    shown = reliability(found)
    assert shown.count('class="bar"') == 3 and shown.count('class="humbler"') == 2 and 'role="img"' in shown


def test_shares_of_a_stacked_bar_add_up():
    shown = stacked_bar([("a", 30.0, "30 s"), ("b", 10.0, "10 s")], "told")
    assert "flex-grow:0.7500" in shown and "10 s · 25%" in shown


def test_a_row_of_one_value_has_no_spread():
    one, two = DotRow("a", 0, [0.5], 0.5, math.nan), DotRow("b", 1, [0.4, 0.6], 0.5, 0.1414)
    assert 'class="spread"' not in dots([one], "percent", "told")
    assert dots([one, two], "percent", "told").count('class="spread"') == 1
