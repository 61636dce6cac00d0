# SPDX-License-Identifier: Apache-2.0
"""What each layer keeps of an image: from noise, the image is found that the layer takes for the given one."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.report.grid import Band, Cell, picture_grid
from cnnjax.see.canvas import color_mixing, frequency_canvas
from cnnjax.see.features import layer_shapes
from cnnjax.see.invert import invert, psnr
from cnnjax.views.subject import Choice, Subject, View, outputs_of, spread_layers

DEFAULT = False

_MOST_IMAGES = 16  # of a figure
_SMOOTHNESS, _COARSE = 0.1, 100.0  # decides what the layer leaves open, and costs it little else
_STEPS = 300


def draw(subject: Subject, choice: Choice, folder: Path) -> View:
    """A row for each image: the picture, and what is found from each layer's representation of it, in order."""
    image = choice.image[:_MOST_IMAGES]
    size = image.shape[1:]
    shapes = layer_shapes(subject.model, subject.params, subject.model_state, size)
    layers = spread_layers(list(shapes), choice.layer)
    targets = outputs_of(subject, image)
    color = image.mean(axis=(0, 1, 2)) / 255
    canvas = frequency_canvas(size, color, color_mixing(image) if size[-1] > 1 else None, cut=True)
    given = image.astype(np.float32) / 255
    columns, entries, lines = [[Cell(each) for each in image]], {}, []
    for layer in layers:
        found = invert(
            subject.model,
            subject.params,
            subject.model_state,
            layer,
            targets[layer],
            jax.random.key(choice.seed),
            canvas=canvas,
            mean=subject.mean,
            std=subject.std,
            smoothness=_SMOOTHNESS,
            coarse=_COARSE,
            num_steps=_STEPS,
        )
        decibels = psnr(found.pixel, given)
        columns.append(
            [
                Cell(np.round(255 * pixel).astype(np.uint8), f"error {error:.1%}\n{ratio:.1f} dB")
                for pixel, error, ratio in zip(found.pixel, found.relative_error, decibels, strict=True)
            ]
        )
        about: dict[str, Any] = {
            "shape": list(shapes[layer]),
            "relative_error": found.relative_error.tolist(),
            "psnr_db": [min(float(each), 99.0) for each in decibels],
        }
        entries[layer] = about
        lines.append(
            f"{layer}: relative error {np.mean(found.relative_error):.1%}, "
            f"image found to {np.mean(about['psnr_db']):.1f} dB (means of {len(image)} images)"
        )
    heads = ["the image\n" + _times(size), *(f"{layer}\n{_times(shapes[layer])}" for layer in layers)]
    rows = [
        (title.replace(": ", ":\n"), [column[i] for column in columns])
        for i, title in enumerate(choice.title[: len(image)])
    ]
    path = folder / "invert.png"
    picture_grid(
        [Band(heads, rows)],
        path,
        title=f"What each layer keeps of an image: {subject.name}",
        note="error: of the representation, relative to its size; dB: peak signal to noise against the image",
    )
    numbers = {"images": list(choice.title[: len(image)]), "layers": entries}
    return View(
        ((path, "images that a layer takes for the given one, from the first layer to the last"),),
        numbers,
        tuple(lines),
    )


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
