# SPDX-License-Identifier: Apache-2.0
"""How far features and answers move when the image is shifted, rotated or scaled."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cnnjax.report.figure import BLUE, ORANGE, figure, percent, shorten
from cnnjax.see.features import layer_shapes
from cnnjax.see.shift import INPUT, Sensitivity, rotated, scaled, sensitivity, shifted
from cnnjax.views.subject import Choice, Subject, View, spread_layers

DEFAULT = True

_IMAGES, _BATCH = 256, 64
_DEGREES = (0, 5, 10, 15, 20, 30, 45)
_SCALES = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5)


def draw(subject: Subject, choice: Choice, folder: Path) -> View:
    """Three panels, a curve for each intermediate; below them how often the answer stays, and stays right."""
    network = (subject.model, subject.params, subject.model_state)
    rows = np.unique(np.linspace(0, len(subject.image) - 1, _IMAGES).astype(int))
    image, label = subject.prepare(subject.image[rows]), subject.label[rows]
    layers = spread_layers([*layer_shapes(*network, subject.image.shape[1:])], choice.layer)
    most = max(min(subject.image.shape[1:3]) // 4, 1)
    pixels = sorted({round(each) for each in np.linspace(0, most, min(most, 8) + 1)})
    moves = {
        "shift": (shifted(most), pixels),
        "rotation": (rotated(), _DEGREES),
        "scale": (scaled(), _SCALES),
    }
    found = {
        name: sensitivity(*network, image, label, move, amounts, layers, batch_size=_BATCH)
        for name, (move, amounts) in moves.items()
    }
    path = folder / "shift.png"
    _plot(path, found, f"What moves when the image moves: {subject.name}", len(rows), subject.split)
    numbers: dict[str, Any] = {"images": len(rows), "split": subject.split, "border": "nearest pixel"}
    for name, each in found.items():
        numbers[name] = {
            "amount": each.amount.tolist(),
            "distance": {layer: value.tolist() for layer, value in each.distance.items()},
            "agreement": None if each.agreement is None else each.agreement.tolist(),
            "accuracy": None if each.accuracy is None else each.accuracy.tolist(),
        }
    caption = f"distances of {len(rows)} {subject.split} images to themselves moved; 1 is another image"
    return View(((path, caption),), numbers, _lines(found))


def _lines(found: dict[str, Sensitivity]) -> tuple[str, ...]:
    """One for each kind of move, at an amount of it that is still small."""
    lines = []
    for name, amount, words in (
        ("shift", 2, "shifted by 2 pixels"),
        ("rotation", 15, "rotated by 15 degrees"),
        ("scale", 1.2, "magnified by 1.2"),
    ):
        each = found[name]
        i = int(np.abs(each.amount - amount).argmin())
        if each.amount[i] != amount:
            continue
        stays = "" if each.agreement is None else f"{each.agreement[i]:.1%} of answers stay; "
        moved = ", ".join(f"{layer} {value[i]:.2f}" for layer, value in each.distance.items())
        lines.append(f"{words}: {stays}distance {moved}")
    return tuple(lines)


def _plot(path: Path, found: dict[str, Sensitivity], title: str, num: int, split: str) -> None:
    """Writes the figure.

    Raises:
      RunError: the file cannot be written.
    """
    units = {"shift": "pixels", "rotation": "degrees, either way", "scale": "magnification"}
    layers = [name for name in next(iter(found.values())).distance if name != INPUT]
    shades = matplotlib.colormaps["viridis_r"](np.linspace(0.08, 1, len(layers)))
    answers = all(each.agreement is not None for each in found.values())
    with figure(path, 7.6, 4.5 if answers else 3.2) as drawn:
        panels = drawn.subplots(
            2 if answers else 1,
            3,
            sharex="col",
            sharey="row",
            height_ratios=[1.8, 1] if answers else None,
            squeeze=False,
        )
        for column, (name, each) in enumerate(found.items()):
            top, bottom = panels[0, column], panels[-1, column]
            style = {"marker": ".", "markersize": 4}
            top.plot(each.amount, each.distance[INPUT], "--", color="#888888", label="the pixels", linewidth=1.1)
            for layer, shade in zip(layers, shades, strict=True):
                top.plot(each.amount, each.distance[layer], color=shade, label=shorten(layer, 7.5, 1.1), **style)
            top.axhline(1, color="#555555", linewidth=0.6)
            top.set_title(name.capitalize(), loc="left")
            if answers:
                bottom.plot(each.amount, each.agreement, color=BLUE, label="same as unmoved", linewidth=2.2, **style)
                bottom.plot(each.amount, each.accuracy, color=ORANGE, label="right", **style)
            bottom.set_xlabel(units[name])
            if name == "shift":
                bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0, 0].set_ylim(bottom=0)
        panels[0, 0].set_ylabel("distance to the unmoved")
        panels[0, 0].annotate(
            "another image", (0.02, 1), xycoords=("axes fraction", "data"), xytext=(0, 2), textcoords="offset points",
            fontsize=6.5, color="#555555",
        )  # fmt: skip
        handles, labels = panels[0, 0].get_legend_handles_labels()
        if answers:
            panels[1, 0].set_ylim(0, 1.03)
            panels[1, 0].set_ylabel("answers")
            panels[1, 0].yaxis.set_major_formatter(FuncFormatter(percent))
            panels[1, 0].legend(loc="lower left")
        drawn.suptitle(shorten(title, 9, 7.2, "bold"), fontweight="bold")
        drawn.legend(
            handles, labels, loc="outside right upper", title=f"{num} {split} images,\nnearest pixel\nat the border"
        )
