# SPDX-License-Identifier: Apache-2.0
"""What the devices of a compiled program say to each other: its collective operations and their bytes."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

# Of one operation, `a` the bytes of its result on a device and n the devices: what each sends if parts are passed round
# a ring, which no way of doing it undercuts (Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002).
_SENT = {
    "all-reduce": lambda a, n: 2 * (n - 1) / n * a,
    "all-gather": lambda a, n: (n - 1) / n * a,
    "reduce-scatter": lambda a, n: (n - 1) * a,
    "all-to-all": lambda a, n: (n - 1) / n * a,
    "collective-permute": lambda a, n: a,
}
# Where starting and waiting are two lines, the second has the type of the result, the first that of the operands too.
_LINE = re.compile(rf"= (.*?) ({'|'.join(_SENT)})(?:-done)?\(")
# The compiler for TPUs writes the sum of which a device needs a part only as a whole one in a computation of this name.
_SCATTER = "%all-reduce-scatter"
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+))[a-z0-9]*\[([\d,]*)\]")


class Collective(NamedTuple):
    """One collective operation.

    Attributes:
      name: "all-reduce", "all-gather", ...
      result_bytes: of its result on one device.
      sent_bytes: that one device sends, if parts are passed round a ring.
    """

    name: str
    result_bytes: int
    sent_bytes: float


class Collectives(NamedTuple):
    """The collective operations of a program, summed up.

    Attributes:
      count: operations, by name.
      result_bytes: of their results on one device.
      sent_bytes: that one device sends, if parts are passed round a ring.
    """

    count: dict[str, int]
    result_bytes: int
    sent_bytes: int


def list_collectives(text: str, num_devices: int) -> list[Collective]:
    """The collectives of `compiled.as_text()`, a program over `num_devices`; one within a loop is listed once."""
    found, scattered = [], False
    for line in text.splitlines():
        if line.endswith("{"):  # a computation begins
            scattered = line.startswith(_SCATTER)
        if match := _LINE.search(line):
            kind, name = match.groups()
            size = sum(_bytes(*array) for array in _ARRAY.findall(kind))
            if scattered and name == "all-reduce":
                name, size = "reduce-scatter", size // num_devices
            found.append(Collective(name, size, _SENT[name](size, num_devices)))
    return found


def sum_up(each: Sequence[Collective]) -> Collectives:
    """Their numbers and bytes together."""
    count = dict(Counter(one.name for one in each))
    return Collectives(count, sum(one.result_bytes for one in each), round(sum(one.sent_bytes for one in each)))


def _bytes(kind: str, bits: str, dimensions: str) -> int:
    """Of an array: pred[3], bf16[2,2], f32[]."""
    width = 1 if kind == "pred" else max(int(bits) // 8, 1)
    return width * math.prod(int(size) for size in dimensions.split(",") if size)
