# SPDX-License-Identifier: Apache-2.0
"""The networks of the picture as points: the published ones, from published.json, and the panels they stand in.

Accuracies are as published, each with its source. Parameters and multiply-adds are those of `cnnjax.inspect.summary`,
kept in the file because tracing all networks takes half a minute; a test compares the two.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.models import get_model
from cnnjax.types import Model

PUBLISHED_FILE = Path(__file__).with_name("published.json")
PAPER, WEIGHTS, RUN = "paper", "weights", "run"
FAMILIES = ("ResNet", "VGG", "AlexNet", "plain", "LeNet", "MLP")
"""Of published networks, in the order of the legend."""


class Point(NamedTuple):
    """One network on one data set.

    Attributes:
      name: short, for the label.
      kind: where the accuracy is from: PAPER, WEIGHTS that can be downloaded, or the user's own RUN.
      family: one of FAMILIES, or "your run".
      accuracy: top-1, in 0..1; the mean over `repeats`.
      spread: its standard deviation over `repeats`, or None.
      repeats: runs that differ in the seed only.
      params: parameters.
      macs: multiply-adds for one image.
      image_shape: (H, W, C) of the image that they are counted on.
      network: the model function and its arguments, as text.
      source: of the accuracy, one sentence.
      note: what else to know of it, or "".
      model: the network.
      seconds: measured time of the forward pass for one image, or None.
    """

    name: str
    kind: str
    family: str
    accuracy: float
    spread: float | None
    repeats: int
    params: int
    macs: int
    image_shape: tuple[int, int, int]
    network: str
    source: str
    note: str
    model: Model
    seconds: float | None = None


class Panel(NamedTuple):
    """The points that may be compared: those of one data set.

    Attributes:
      key: of the panel, for addresses.
      title: the data set.
      accuracy: what the accuracy is, for the axis.
      points: never none.
    """

    key: str
    title: str
    accuracy: str
    points: tuple[Point, ...]


class KnownSet(NamedTuple):
    """A data set that published networks stand for; `data` are its names in runs."""

    title: str
    accuracy: str
    data: tuple[str, ...]
    num_classes: int


def read_published(path: Path = PUBLISHED_FILE) -> tuple[dict[str, KnownSet], dict[str, list[Point]]]:
    """The known data sets and their published networks, both by key and in the order of the file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    sets = {key: KnownSet(**{**value, "data": tuple(value["data"])}) for key, value in content["sets"].items()}
    points: dict[str, list[Point]] = {key: [] for key in sets}
    for entry in content["networks"]:
        known = sets[entry["set"]]
        points[entry["set"]].append(_point(entry, known.num_classes, content["sources"][entry["source"]]))
    return sets, points


def _point(entry: dict[str, Any], num_classes: int, source: str) -> Point:
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in entry["arguments"].items()}
    height, width, channels = entry["image"]
    return Point(
        entry["name"],
        WEIGHTS if entry["source"] == "torchvision" else PAPER,
        entry["family"],
        published_accuracy(entry["published"]),
        None,
        1,
        entry["params"],
        entry["macs"],
        (height, width, channels),
        spell(entry["model"], arguments),
        source,
        entry["note"],
        get_model(entry["model"], arguments, num_classes=num_classes),
    )


def published_accuracy(published: dict[str, float]) -> float:
    """The accuracy in 0..1 of a number as it was published, an error or an accuracy in percent."""
    ((what, percent),) = published.items()
    return round({"top1_error_percent": 100 - percent, "top1_accuracy_percent": percent}[what] / 100, 6)


def spell(name: str, arguments: dict[str, Any]) -> str:
    """A model function and its arguments as they are called: "resnet(depth=50, version='v1')"."""
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def make_panels(runs: Iterable[tuple[str, Sequence[str], Point]]) -> list[Panel]:
    """The published networks and the runs, by data set: the known sets first, then those of runs alone.

    Args:
      runs: (name of the data set, names of its classes, point) of each run. A run joins the published networks of a
        set of this name with as many classes.
    """
    sets, published = read_published()
    panels: dict[tuple[str, ...], tuple[str, str, list[Point]]] = {
        (key,): (known.title, known.accuracy, list(published[key])) for key, known in sets.items()
    }
    for data, label_names, point in runs:
        same = [key for key, known in sets.items() if data in known.data and len(label_names) == known.num_classes]
        place = (same[0],) if same else (data, *label_names)
        title = f"{data}, {len(label_names)} classes"
        panels.setdefault(place, (title, "accuracy", []))[2].append(point)
    return [
        Panel(place[0] if len(place) == 1 else f"set{i}", title, accuracy, tuple(points))
        for i, (place, (title, accuracy, points)) in enumerate(panels.items())
        if points
    ]
