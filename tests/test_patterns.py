# SPDX-License-Identifier: Apache-2.0
import pytest

from cnnjax.errors import UsageError
from cnnjax.patterns import decide, matches, param_paths, parse_pairs, selected

PATHS = [
    "output/bias",
    "output/kernel",
    "stage1/block1/bn1/bias",
    "stage1/block1/bn1/scale",
    "stage1/block1/conv1/kernel",
    "stem_bn/scale",
    "stem_conv/kernel",
]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("stem*", [5, 6]),
        ("stage1/*", [2, 3, 4]),
        ("*/bn*", [2, 3]),
        ("*bn*", [2, 3, 5]),
        ("output", [0, 1]),  # a layer stands for what is below it
        ("out", []),
        ("*/kernel", [1, 4, 6]),
        ("stage?/block[12]", [2, 3, 4]),
        ("*", list(range(7))),
    ],
)
def test_a_pattern_matches_paths_and_the_layers_they_lie_in(pattern: str, found: list[int]):
    assert [i for i, path in enumerate(PATHS) if matches(pattern, path)] == found


def test_paths_are_those_of_the_tree():
    assert param_paths({"b": {"kernel": 1}, "a": {"x": [2, 3]}}) == ["a/x/0", "a/x/1", "b/kernel"]


def test_the_last_pattern_decides_and_exceptions_take_back():
    assert selected(("*", "!output", "output/bias"), PATHS, "k") == [p for p in PATHS if p != "output/kernel"]
    assert decide(("*", "output"), PATHS, "k")["output/bias"] == 1
    assert selected((), PATHS, "k") == []


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("stage9/*",), "config.freeze: 'stage9/*' matches no parameter; there are stage1"),
        (("*", "!outputs"), "'!outputs' matches no parameter; there are output,"),
        (("output", "*"), "'output' decides nothing: of what it matches, the later '*' decides"),
    ],
)
def test_a_pattern_without_effect_is_one_clear_line(patterns: tuple[str, ...], message: str):
    with pytest.raises(UsageError) as error:
        selected(patterns, PATHS, "config.freeze")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_pairs():
    assert parse_pairs(("stem*=0.1", "a=b=2"), "k", "FACTOR") == [("stem*", 0.1), ("a=b", 2.0)]
    for entry in ("stem*", "stem*=", "=1", "stem*=-1", "stem*=nan", "stem*=inf", "stem*=fast"):
        with pytest.raises(UsageError, match="is not of the form PATTERN=FACTOR"):
            parse_pairs((entry,), "config.optimizer.factors", "FACTOR")
