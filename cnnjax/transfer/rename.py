# SPDX-License-Identifier: Apache-2.0
"""Rules that rename arrays, "OLD=NEW" with `*`: `backbone/*=*`, `head=output`, `layer*/*=stage*/*`."""

import re
from collections.abc import Sequence

from cnnjax.errors import UsageError, nearest_first

_KEY = "config.init_rename"


def renamed(names: Sequence[str], rules: Sequence[str]) -> dict[str, str]:
    """The new name of each name; of several rules that match it the last one counts.

    OLD matches a whole name, or the layers it begins with: "head" is in "head/kernel", and what follows stays. Each `*`
    stands for any characters and fills the `*` of NEW in turn. Dots count as slashes, so names of PyTorch are
    "layer1/0/conv1/weight"; an empty NEW drops what OLD matched.

    Args:
      names: paths with slashes.
      rules: "OLD=NEW".

    Raises:
      UsageError: a rule is not of that form or matches nothing, or two names become one.
    """
    changed = {name: name for name in names}
    for rule in rules:
        old, equals, new = rule.replace(".", "/").partition("=")
        if not old or not equals or new.count("*") > old.count("*"):
            raise UsageError(f"{_KEY}: {rule!r} is not of the form OLD=NEW, with no more '*' in NEW than in OLD")
        pattern = re.compile(".*".join(map(re.escape, old.split("*"))).replace(".*", "(.*)") + r"(/.*)?")
        found = {name: match for name in names if (match := pattern.fullmatch(name))}
        if not found:
            near = ", ".join(nearest_first(old, names)[:3])
            raise UsageError(f"{_KEY}: {old!r} matches none of the source's names; there are {near}, ...")
        for name, match in found.items():
            *filled, rest = match.groups(default="")
            parts = new.split("*")
            changed[name] = "".join(a + b for a, b in zip(parts, [*filled[: len(parts) - 1], ""], strict=True)) + rest
            changed[name] = changed[name].strip("/")
    taken: dict[str, str] = {}
    for name, other in changed.items():
        if other in taken:
            raise UsageError(f"{_KEY}: {taken[other]} and {name} both become {other}; make the rules apart")
        taken[other] = name
    return changed
