# SPDX-License-Identifier: Apache-2.0
"""The last features of many images in two dimensions, PCA and t-SNE, coloured by class."""

import math
from pathlib import Path

import jax
import matplotlib
import numpy as np
from matplotlib.axes import Axes

from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.report.figure import figure, shorten
from cnnjax.report.table import format_count
from cnnjax.see.embed import chance_agreement, neighbour_agreement, pca, tsne
from cnnjax.see.features import HEADS, layer_shapes
from cnnjax.types import Array, ModelState, Params
from cnnjax.views.subject import Choice, Subject, View

DEFAULT = True
_POINTS = 1000  # unless more are asked for
_BATCH = 100
_NEIGHBOURS = 10
_MOST_CLASSES = 20  # in the legend
_MARKERS = "osD^vP"  # tell classes apart that share a colour


def draw(subject: Subject, choice: Choice, folder: Path) -> View:
    """Two planes side by side, and how well neighbours agree in each and in the features themselves.

    Raises:
      UsageError: there is no such layer.
      RunError: fewer images than a plane needs, or features that are not finite.
    """
    shape = subject.image.shape
    shapes = layer_shapes(subject.model, subject.params, subject.model_state, (shape[1], shape[2], shape[3]))
    layer = choice.layer or default_layer([*shapes])
    if layer not in shapes:
        raise UsageError(unknown("layer", layer, shapes))
    num = min(max(_POINTS, choice.num), len(subject.image))
    if num < 8:
        raise RunError(
            f"{subject.split} has only {num} images, too few for a plane of neighbours; take another --split"
        )
    # Drawn at random, since a split may be sorted by class; in order, so that a memory map is read forwards.
    rows = np.sort(np.random.default_rng(choice.seed).choice(len(subject.image), num, replace=False))
    features, label = _features(subject, layer, rows), subject.label[rows]
    if not np.isfinite(features).all():
        raise RunError(f"{layer} is not finite; the network's parameters are damaged or it diverged in training")
    # A single feature has no plane: a second one that says nothing gives it one.
    features = np.pad(features, ((0, 0), (0, max(2 - features.shape[1], 0))))
    plane = pca(features)
    points = {"PCA": plane.points, "t-SNE": tsne(features, choice.seed)}
    planes = {name: neighbour_agreement(each, label, _NEIGHBOURS) for name, each in points.items()}
    whole, chance = neighbour_agreement(features, label, _NEIGHBOURS), chance_agreement(label)
    path = folder / "embed.png"
    notes = {
        "PCA": f"{plane.explained.sum():.1%} of the variance ({plane.explained[0]:.1%} + {plane.explained[1]:.1%})"
    }
    notes["t-SNE"] = "distances between groups mean nothing"
    dims = features.shape[1]
    title = f"{format_count(num)} {subject.split} images as {subject.name} sees them: {layer} ({dims} numbers)"
    asked = f"Share of an image's {_NEIGHBOURS} nearest neighbours that have its class"
    drawn = ", ".join(f"{share:.1%} by {name}" for name, share in planes.items())
    foot = f"{asked}: {whole:.1%} in all {dims} dimensions, {drawn}; by chance {chance:.1%}."
    _draw(path, points, notes, label, subject.label_names, title, foot)
    numbers = {
        "layer": layer,
        "images": num,
        "dimensions": dims,
        "explained": [float(share) for share in plane.explained],
        "neighbours": _NEIGHBOURS,
        "agreement": {"features": whole, "pca": planes["PCA"], "tsne": planes["t-SNE"], "chance": chance},
    }
    return View(((path, f"{layer} of {num} images in two dimensions, coloured by class"),), numbers, (foot,))


def default_layer(names: list[str]) -> str:
    """`features` or `latent` where there is one, else the last output before the answer, else the answer."""
    inner = [name for name in names if name not in HEADS]
    return next((name for name in ("features", "latent") if name in inner), [*names[:1], *inner][-1])


def _features(subject: Subject, layer: str, rows: np.ndarray) -> np.ndarray:
    """[n,D] float32: a layer's output for rows of the split; of a map the mean of each channel."""

    def apply(params: Params, model_state: ModelState, image: Array) -> Array:
        return subject.model.apply(params, model_state, image, train=False)[0][layer]

    compiled, found = jax.jit(apply), []
    for start in range(0, len(rows), _BATCH):
        image = subject.image[rows[start : start + _BATCH]]
        padding = np.zeros((min(_BATCH, len(rows)) - len(image), *image.shape[1:]), np.uint8)  # compiled once
        prepared = subject.prepare(np.concatenate([image, padding]))
        value = np.asarray(compiled(subject.params, subject.model_state, prepared), np.float32)[: len(image)]
        found.append(value.reshape(len(value), -1, value.shape[-1]).mean(axis=1))
    return np.concatenate(found)


def _draw(
    path: Path,
    points: dict[str, np.ndarray],
    notes: dict[str, str],
    label: np.ndarray,
    names: tuple[str, ...],
    title: str,
    foot: str,
) -> None:
    with figure(path, 8.2, 4.3) as drawn:
        panels = drawn.subplots(1, 2)
        for panel, (name, each) in zip(panels, points.items(), strict=True):
            _scatter(panel, each, label, names)
            panel.set_title(name, fontweight="bold")
            panel.set_xlabel(notes[name])
        handles, texts = panels[0].get_legend_handles_labels()
        more = f"and {len(handles) - _MOST_CLASSES} more" if len(handles) > _MOST_CLASSES else None
        drawn.legend(handles[:_MOST_CLASSES], texts[:_MOST_CLASSES], loc="outside right center", title=more)
        drawn.suptitle(shorten(title, 9, 8, "bold"), fontweight="bold")
        drawn.supxlabel(shorten(foot, 7, 8), fontsize=7, color="#333333")


def _scatter(panel: Axes, points: np.ndarray, label: np.ndarray, names: tuple[str, ...]) -> None:
    colors = matplotlib.colormaps["tab10"]
    size = float(np.clip(9000 / len(points), 3, 14))
    for k in np.unique(label):
        own = points[label == k]
        marker = _MARKERS[math.floor(k / 10) % len(_MARKERS)]
        text = shorten(names[k], 7.5, 1.1)
        panel.scatter(
            own[:, 0], own[:, 1], s=size, color=colors(k % 10), marker=marker, linewidths=0, alpha=0.8, label=text
        )
    panel.set(xticks=(), yticks=())
    panel.grid(False)
    panel.margins(0.03)
