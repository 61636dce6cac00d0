# SPDX-License-Identifier: Apache-2.0
"""What the network learnt from: sizes, counts of the classes, and some of the pictures."""

import numpy as np

from cnnjax.page.document import Section, note
from cnnjax.page.html import Html, element, join, table
from cnnjax.page.pictures import data_uri, reduced, row
from cnnjax.types import Dataset
from cnnjax.workdir import DatasetInfo

NUM_SAMPLES = 8  # pictures of a class
MAX_SAMPLED = 20  # classes that are shown in pictures
_SIDE = 64  # pixels of a sample


def data_section(info: DatasetInfo, dataset: Dataset | None) -> Section:
    """The splits; with the data at hand also the classes, their counts and samples."""
    height, width, channels = info.image_shape
    colors = {1: "gray", 3: "RGB"}.get(channels, f"{channels} channels")
    total = sum(info.num_examples.values())
    splits = ", ".join(f"{count:,} {split}" for split, count in info.num_examples.items())
    size = f"{height}×{width} pixels, {colors}, {len(info.label_names)} classes"
    words = f"{info.name}: {total:,} images ({splits}) of {size}."
    if dataset is None:
        return Section("data", "Data", (note(words),))
    counts = {name: np.bincount(s.label, minlength=len(info.label_names)) for name, s in dataset.splits.items()}
    sampled = len(info.label_names) <= MAX_SAMPLED
    header = ["class", *counts] + (["samples of " + next(iter(counts))] if sampled else [])
    rows = []
    for label, name in enumerate(info.label_names):
        cells: list[object] = [name, *(f"{count[label]:,}" for count in counts.values())]
        rows.append([*cells, _samples(dataset, label, name)] if sampled else cells)
    align = "l" + "r" * len(counts) + "l" * sampled
    listed = table(header, rows, align, caption="Classes and their examples", tall=not sampled, sortable=not sampled)
    return Section("data", "Data", (note(words), listed if sampled else join([_some(dataset), listed])))


def _samples(dataset: Dataset, label: int, name: str) -> Html:
    split = next(iter(dataset.splits.values()))
    chosen = np.flatnonzero(split.label == label)[:NUM_SAMPLES]
    if not len(chosen):
        return element("span", "none", class_="soft")
    uri = data_uri(row([reduced(split.image[i], _SIDE) for i in chosen]))
    return element("img", src=uri, alt=f"{len(chosen)} pictures of {name}", class_="strip pixels")


def _some(dataset: Dataset) -> Html:
    split = next(iter(dataset.splits.values()))
    chosen = np.linspace(0, len(split.label) - 1, min(16, len(split.label)), dtype=int)
    names = [dataset.label_names[split.label[i]] for i in chosen]
    pictures = [
        element("li", element("img", src=data_uri(reduced(split.image[i], 2 * _SIDE)), alt=name), element("span", name))
        for i, name in zip(chosen, names, strict=True)
    ]
    return element("ul", *pictures, class_="mistakes")
