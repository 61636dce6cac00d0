# SPDX-License-Identifier: Apache-2.0
"""Where the network looks for a class: Grad-CAM."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from cnnjax.see.gradcam import choose_layer, grad_cam, upsample, usable_layers
from cnnjax.views.drawing import Column, ask, draw_rows, unsigned_map, unsigned_overlay
from cnnjax.views.subject import Choice, Subject, View

DEFAULT = True


def draw(subject: Subject, choice: Choice, folder: Path) -> View:
    """A row for each image: the layer's map for the class, the same over the picture, and that of the next class."""
    network = (subject.model, subject.params, subject.model_state)
    question = ask(subject, choice)
    image, names = question.image, subject.label_names
    layer = choose_layer(usable_layers(*network, image[:1]), choice.layer)
    lines, size = list(question.lines), question.picture.shape[1:3]

    def maps(target: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        coarse = grad_cam(*network, image, jnp.asarray(target), layer)
        fine = np.asarray(upsample(coarse, size))
        overlays = [unsigned_overlay(*pair) for pair in zip(question.picture, fine, strict=True)]
        return np.asarray(coarse), overlays

    coarse, overlays = maps(question.target)
    height, width = layer.shape[1:3]
    columns = [
        Column("picture", list(question.picture)),
        Column(f"map of {layer.name}\n{height}x{width}", [unsigned_map(each) for each in coarse]),
        Column("for the answer" if choice.target is None else f"for\n{names[choice.target]}", overlays),
    ]
    if len(names) > 1:
        columns.append(Column("for the next class", maps(question.other)[1]))
    for about, each in zip(question.numbers, coarse, strict=True):
        if not each.any():
            lines.append(f"{about['image']}: nothing in {layer.name} speaks for {about['class']}; its map is empty")

    path = folder / "gradcam.png"
    title = f"Where {layer.name} speaks for the class: {subject.name}"
    draw_rows(path, title, question.captions, columns, [(False, "does not speak for it", "does")])
    numbers = {
        "layer": layer.name,
        "images": [{**about, "map": each.tolist()} for about, each in zip(question.numbers, coarse, strict=True)],
    }
    return View(((path, f"Grad-CAM of {layer.name}; each map has its own scale"),), numbers, tuple(lines))
