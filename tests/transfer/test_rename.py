# SPDX-License-Identifier: Apache-2.0
import pytest

from cnnjax.errors import UsageError
from cnnjax.transfer.rename import renamed

NAMES = ["backbone/conv1/kernel", "backbone/bn1/scale", "head/kernel", "layer1/0/conv/kernel"]


@pytest.mark.parametrize(
    ("rules", "new"),
    [
        ((), NAMES),
        (("backbone/*=*",), ["conv1/kernel", "bn1/scale", *NAMES[2:]]),
        (("backbone=",), ["conv1/kernel", "bn1/scale", *NAMES[2:]]),
        (("head=output",), [*NAMES[:2], "output/kernel", NAMES[3]]),
        (("layer*.*.conv=stage*/block*/conv1",), [*NAMES[:3], "stage1/block0/conv1/kernel"]),
        (("*=net/*", "head=output"), ["net/" + NAMES[0], "net/" + NAMES[1], "output/kernel", "net/" + NAMES[3]]),
    ],
)
def test_rules(rules: tuple[str, ...], new: list[str]):
    assert list(renamed(NAMES, rules).values()) == new


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (("heads=output",), "'heads' matches none of the source's names; there are head/kernel"),
        (("head",), "'head' is not of the form OLD=NEW"),
        (("=head",), "is not of the form OLD=NEW"),
        (("head=*",), "no more '*' in NEW than in OLD"),
        (("head=a", "*/0/conv=a"), "head/kernel and layer1/0/conv/kernel both become a/kernel"),
    ],
)
def test_wrong_rules_are_one_line(rules: tuple[str, ...], message: str):
    with pytest.raises(UsageError) as error:
        renamed(NAMES, rules)
    assert message in str(error.value) and "\n" not in str(error.value)
