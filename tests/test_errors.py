# SPDX-License-Identifier: Apache-2.0
import pytest

from cnnjax.errors import CnnjaxError, unknown, why


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(2, "No such file", "a.png"), "No such file"),
        (ValueError("two\n lines"), "two lines"),
        (ValueError("x" * 1000), "x" * 100),
        (ValueError(), "ValueError"),
    ],
)
def test_why_something_cannot_be_read_is_a_part_of_a_line(error: Exception, reason: str):
    assert why(error) == reason


def test_a_message_is_one_line_and_no_screen_of_it():
    assert str(CnnjaxError("a\nb\x1b[31m")) == r"a\nb\x1b[31m"
    long = str(CnnjaxError("a" * 5000 + "b" * 5000))
    assert len(long) == 1200 and long.startswith("aaa") and long.endswith("bbb") and " ... " in long


def test_the_nearest_name_comes_first_and_not_all_of_many():
    assert unknown("model", "resnet_cifr", ["lenet5", "resnet_cifar"]).startswith(
        "unknown model 'resnet_cifr'; did you mean 'resnet_cifar'? Known: resnet_cifar, lenet5"
    )
    assert unknown("label", "a", map(str, range(100))).endswith(", ... (100 in all)")
    assert unknown("label", "a", []) == "unknown label 'a'; there is none to choose from"
