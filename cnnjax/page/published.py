# SPDX-License-Identifier: Apache-2.0
"""The published number that a run stands beside, and what the comparison says.

`published.json` holds the accuracies, each with its source and the config keys that a run must have for it; a list
there stands for any of its values, null for a key that is not given.
"""

import functools
import json
import math
from importlib import resources
from typing import Any, NamedTuple

from cnnjax.config import flatten
from cnnjax.report.environment import to_plain
from cnnjax.types import Config


class Published(NamedTuple):
    """An accuracy in 0..1, what is special about it, and who reports it."""

    accuracy: float
    note: str
    source: str


def find_published(config: Config) -> Published | None:
    """The number published for the network and the data of `config`; None where there is none."""
    flat = to_plain(flatten(config))
    if flat["data.labels"] or flat["task.name"] != "classification":
        return None
    for entry in _entries():
        same = all(
            flat.get(key) in wanted if isinstance(wanted, list) else flat.get(key) == wanted
            for key, wanted in entry["config"].items()
        )
        if same and entry.get("distorted", _is_distorted(flat)) == _is_distorted(flat):
            return Published(entry["accuracy"], entry.get("note", ""), entry["source"])
    return None


def interval(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The range of true shares that a share of `count` examples is likely under: Wilson's 95% interval.

    Reference: Wilson, Probable Inference, Journal of the American Statistical Association 22, 1927.
    """
    scale = 1 + z * z / count
    middle = (share + z * z / (2 * count)) / scale
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / scale
    return max(middle - half, 0.0), min(middle + half, 1.0)


def judge(accuracy: float, count: int, published: Published) -> tuple[str, str]:
    """("above" | "equal" | "below", the sentence): `accuracy` on `count` test images against the published one.

    Equal means that the published accuracy lies in the 95% interval of this one.
    """
    low, high = interval(accuracy, count)
    points = 100 * (accuracy - published.accuracy)
    known = f"the published {100 * published.accuracy:.2f}%"
    if low <= published.accuracy <= high:
        return "equal", f"As good as {known}, within what {count:,} test images can tell."
    word = "above" if points > 0 else "below"
    return word, f"{abs(points):.2f} percentage points {word} {known}."


@functools.cache
def _entries() -> list[dict[str, Any]]:
    return json.loads(resources.files("cnnjax.page").joinpath("published.json").read_text())


def _is_distorted(flat: dict[str, Any]) -> bool:
    """Whether training images are moved about."""
    moves = ("augment.shift", "augment.rotate", "augment.shear")
    return any(flat.get(key) for key in moves) or flat.get("augment.scale") not in (None, [1.0, 1.0])
