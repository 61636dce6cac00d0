# SPDX-License-Identifier: Apache-2.0
import pytest

from cnnjax.errors import UsageError
from cnnjax.sweep.grid import make_points, split_values

SPEC = "experiments/default.py"


def points(*overrides: str):
    return make_points(SPEC, [f"--config.{override}" for override in overrides])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1", ["0.1"]),
        ("0.1, 0.2", ["0.1", "0.2"]),
        ("(1,2)", ["(1,2)"]),
        ("(8,),(16,32)", ["(8,)", "(16,32)"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("[1,(2,3)],4", ["[1,(2,3)]", "4"]),
    ],
)
def test_commas_outside_brackets_and_quotes_separate_values(text, values):
    assert split_values("key", text) == values


def test_a_grid_is_the_product_of_the_values_in_order():
    grid = points("optimizer.learning_rate=0.1,0.01", "train.num_epochs=2", "seed=0,1", "model.hidden=(8,),(4,2)")
    assert len(grid) == 8
    assert [point.name for point in grid[:3]] == [
        "learning_rate=0.1,seed=0,hidden=8",
        "learning_rate=0.1,seed=0,hidden=4_2",
        "learning_rate=0.1,seed=1,hidden=8",
    ]
    last = grid[-1]
    assert last.values == {"optimizer.learning_rate": 0.01, "seed": 1, "model.hidden": (4, 2)}
    assert last.config.train.num_epochs == 2 and last.config.model.hidden == (4, 2) and last.config.seed == 1


def test_folders_have_numbers_where_the_values_make_no_names():
    assert [p.name for p in points("data.labels=('a b',),('a/b',)")] == ["point0", "point1"]  # both would be a_b
    long = ",".join(f"('{letter * 130}',)" for letter in "ab")
    assert [p.name for p in points(f"data.labels={long}")] == ["point0", "point1"]
    same_end = points("data.synthetic.num_classes=3,4", "data.split_seed=0,1", "seed=0,1")
    assert same_end[0].name == "num_classes=3,split_seed=0,seed=0"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "the grid has no points: give a key several values"),
        (("seed=1",), "the grid has no points"),
        (("seed=" + ",".join(map(str, range(101))), "data.batch_size=1,2,3,4,5,6,7,8,9,10"), "101 x 10 = 1,010 points"),
        (("seed=0,1,0",), r"two points of the grid are the same \(config.seed=0\)"),
        (("optimizer.learning_rate=0.1,0.10",), "two points of the grid are the same"),
        (("seed=0,,1",), "has an empty value between its commas"),
        (("model.hidden=(8,4",), "a bracket or a quote that is not closed"),
        (("optimizer.learning_rat=0.1,0.2",), "did you mean 'config.optimizer.learning_rate'"),
        (("optimizer.learning_rate=0.1,fast",), "'fast' is not of type float"),
        (("optimizer.learning_rate=0.1,-1",), "out of range"),
        (("ensemble_size=2,3",), "a sweep takes --config.seed=0,1,2 instead"),
    ],
)
def test_a_grid_that_cannot_be_is_one_line(overrides, message):
    with pytest.raises(UsageError, match=message) as error:
        points(*overrides)
    assert "\n" not in str(error.value)
