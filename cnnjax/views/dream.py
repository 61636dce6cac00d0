# SPDX-License-Identifier: Apache-2.0
"""The image that excites a neuron most, found by climbing from noise, beside the strongest real one."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.report.grid import Band, Cell, picture_grid
from cnnjax.see.canvas import color_mixing, frequency_canvas
from cnnjax.see.dream import dream, unit_values
from cnnjax.see.features import HEADS, layer_shapes
from cnnjax.types import Array, ModelState, Params
from cnnjax.views.subject import Choice, Subject, View

DEFAULT = False

_REAL = 2048  # images at most that dreams are measured against, spread over the split
_SMOOTHNESS = 4.0  # an image all of whose pixels step from black to white costs 4 standard deviations of the unit
_STEPS = 320
_BATCH, _COLUMNS, _CLASSES = 128, 10, 10
_NAMES = {"mean": "whole channel", "center": "its neuron in\nthe middle"}


def draw(subject: Subject, choice: Choice, folder: Path) -> View:
    """A picture a layer: by default one dream for each class, and those of channels of a hidden layer."""
    size = subject.image.shape[1:]
    shapes = layer_shapes(subject.model, subject.params, subject.model_state, size)
    layers = _layers(shapes, choice)
    rows = np.unique(np.linspace(0, len(subject.image) - 1, _REAL).astype(int))
    color = subject.image[rows].mean(axis=(0, 1, 2)) / 255
    mixing = color_mixing(subject.image[rows[:256]]) if size[-1] > 1 else None
    canvas = frequency_canvas(size, color, mixing)
    numbers: dict[str, Any] = {"real_images": len(rows), "split": subject.split, "layers": {}}
    pictures, lines = [], []
    for layer in layers:
        places = ("mean", "center") if np.prod(shapes[layer][:-1]) > 1 else ("mean",)
        real = _real_values(subject, layer, places, subject.image[rows])
        units = _units(layer, shapes[layer][-1], real["mean"], subject, choice)
        names = [subject.label_names[u] if layer == "logits" else f"channel {u}" for u in units]
        rows_of_cells, entries = [], []
        for place in places:
            values = real[place][:, units]
            best = values.argmax(axis=0)
            found = dream(
                subject.model,
                subject.params,
                subject.model_state,
                layer,
                units,
                jax.random.key(choice.seed),
                canvas=canvas,
                mean=subject.mean,
                std=subject.std,
                place=place,
                scale=np.maximum(values.std(axis=0), 1e-6),
                smoothness=_SMOOTHNESS,
                # A class should be known wherever it is a little moved; a neuron of a map has its own place.
                jitter=max(min(size[:2]) // (8 if len(places) == 1 else 16), 1),
                rotate=20.0 if len(places) == 1 else 5.0,
                num_steps=_STEPS,
            )
            what = "dream" if len(places) == 1 else f"dream:\n{_NAMES[place]}"
            dreams = [
                Cell(np.round(255 * pixel).astype(np.uint8), f"{reached:.3g}" if reached else "0: not woken")
                for pixel, reached in zip(found.pixel, found.activation, strict=True)
            ]
            strongest = [Cell(subject.image[rows[i]], f"{values[i, column]:.3g}") for column, i in enumerate(best)]
            rows_of_cells += [(what, dreams), ("strongest\nreal image", strongest)]
            for column, unit in enumerate(units):
                entries.append(
                    {
                        "unit": int(unit),
                        "name": names[column],
                        "place": place,
                        "dream": float(found.activation[column]),
                        "highest_real": float(values[:, column].max()),
                        "highest_image": int(rows[best[column]]),
                        "mean_real": float(values[:, column].mean()),
                        "std_real": float(values[:, column].std()),
                    }
                )
        numbers["layers"][layer] = entries
        above = sum(entry["dream"] > entry["highest_real"] for entry in entries)
        lines.append(
            f"{layer}: {above} of {len(entries)} dreams excite their unit more than any of {len(rows)} "
            f"{subject.split} images"
        )
        path = folder / f"dream_{layer}.png"
        picture_grid(
            _bands(names, rows_of_cells),
            path,
            title=f"What excites {layer} most: {subject.name}",
            note=f"below each picture the activation; real: the highest of {len(rows)} {subject.split} images",
        )
        pictures.append((path, f"what excites units of {layer} most, dreamt and real"))
    return View(tuple(pictures), numbers, tuple(lines))


def _layers(shapes: dict[str, tuple[int, ...]], choice: Choice) -> list[str]:
    """The one named, or the logits and the last intermediate that is a map."""
    if choice.layer is not None:
        if choice.layer not in shapes:
            raise UsageError(unknown("layer", choice.layer, shapes))
        return [choice.layer]
    maps = [name for name, shape in shapes.items() if name not in HEADS and np.prod(shape[:-1]) > 1]
    hidden = (maps or [name for name in shapes if name not in HEADS])[-1:]
    if choice.unit is not None and hidden:
        return hidden
    classes = ["logits"] if "logits" in shapes else []
    if choice.target is not None:
        return classes
    if not classes + hidden:
        raise RunError("the network names no output with channels, so there is no unit to dream of")
    return classes + hidden


def _units(layer: str, channels: int, real: np.ndarray, subject: Subject, choice: Choice) -> np.ndarray:
    """The unit or class named; else ten classes, or the channels that tell real images apart most."""
    if choice.unit is not None:
        if not 0 <= choice.unit < channels:
            raise UsageError(f"--unit is {choice.unit}, but {layer} has channels 0 to {channels - 1}")
        return np.array([choice.unit])
    if layer == "logits":
        if choice.target is not None:
            return np.array([choice.target])
        return np.arange(min(channels, max(choice.num, _CLASSES)))
    return np.sort(np.argsort(-real.std(axis=0), kind="stable")[: choice.num])


def _real_values(subject: Subject, layer: str, places: tuple[str, ...], image: np.ndarray) -> dict[str, np.ndarray]:
    """For each place float32 [N,C]: the activations of a layer's units at real images, uint8 [N,H,W,C]."""

    @jax.jit
    def look(params: Params, model_state: ModelState, image: Array) -> dict[str, Array]:
        outputs, _ = subject.model.apply(params, model_state, image, train=False)
        return {place: unit_values(outputs[layer], place).astype(jnp.float32) for place in places}

    padding = np.zeros((-len(image) % _BATCH, *image.shape[1:]), np.uint8)  # one shape: compiled once
    padded = np.concatenate([image, padding])
    found = [
        look(subject.params, subject.model_state, subject.prepare(padded[i : i + _BATCH]))
        for i in range(0, len(padded), _BATCH)
    ]
    return {place: np.concatenate([np.asarray(each[place]) for each in found])[: len(image)] for place in places}


def _bands(names: list[str], rows: list[tuple[str, list[Cell]]]) -> list[Band]:
    """Ten units side by side, the rest below."""
    starts = range(0, len(names), _COLUMNS)
    return [Band(names[i : i + _COLUMNS], [(name, cells[i : i + _COLUMNS]) for name, cells in rows]) for i in starts]
