# SPDX-License-Identifier: Apache-2.0
"""What the devices of a compiled program say to each other: its collective operations and their bytes."""

import math
import re
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
_LINE = re.compile(rf"= (.*?) ({'|'.join(_SENT)})(?:-start)?\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+))[a-z0-9]*\[([\d,]*)\]")


class Collectives(NamedTuple):
    """The collective operations of a program, each counted once, also within a loop.

    Attributes:
      count: operations, by name.
      result_bytes: of their results on one device.
      sent_bytes: that one device sends, if parts are passed round a ring.
    """

    count: dict[str, int]
    result_bytes: int
    sent_bytes: int


def read_collectives(text: str, num_devices: int) -> Collectives:
    """The collectives of `compiled.as_text()`, a program over `num_devices`."""
    count: dict[str, int] = {}
    results, sent = 0, 0.0
    for line in text.splitlines():
        if found := _LINE.search(line):
            kind, name = found.groups()
            size = sum(_bytes(*array) for array in _ARRAY.findall(kind))
            count[name] = count.get(name, 0) + 1
            results += size
            sent += _SENT[name](size, num_devices)
    return Collectives(count, results, round(sent))


def _bytes(kind: str, bits: str, dimensions: str) -> int:
    """Of an array: pred[3], bf16[2,2], f32[]."""
    width = 1 if kind == "pred" else max(int(bits) // 8, 1)
    return width * math.prod(int(size) for size in dimensions.split(",") if size)
