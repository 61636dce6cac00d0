# SPDX-License-Identifier: Apache-2.0
"""What the answer loses when a patch of the image is hidden."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from cnnjax.see.occlusion import occlude, spread
from cnnjax.views.drawing import Column, ask, draw_rows, mean_color, signed_map, signed_overlay
from cnnjax.views.subject import Choice, Subject, View

DEFAULT = True


def draw(subject: Subject, choice: Choice, folder: Path) -> View:
    """A row for each image: the picture with its most important patch, and what hiding each place costs."""
    question = ask(subject, choice)
    height, width = question.picture.shape[1:3]
    side = max(min(height, width) // 4, 1)
    stride = max(side // 4, 1)
    result = occlude(
        subject.model,
        subject.params,
        subject.model_state,
        question.image,
        jnp.asarray(question.target),
        mean_color(subject)[0],
        size=(side, side),
        stride=stride,
    )
    drop = result.whole_logit[:, None, None] - result.logit
    fine = spread(result, drop, (height, width))

    boxes, numbers, captions = [], [], []
    for i, (about, caption) in enumerate(zip(question.numbers, question.captions, strict=True)):
        row, column = np.unravel_index(int(np.argmax(drop[i])), drop[i].shape)
        box = (int(result.top[row]), int(result.left[column]), side, side)
        least = float(result.probability[i, row, column])
        boxes.append(box)
        captions.append([*caption, (f"box hidden: {least:.1%}", caption[0][1])])
        numbers.append({**about, "patch": box, "probability_hidden": least, "logit_drop": float(drop[i, row, column])})

    columns = [
        Column("picture and its most\nimportant patch", list(question.picture), boxes),
        Column("what hiding it costs", [signed_map(each) for each in fine]),
        Column("over the picture", [signed_overlay(*pair) for pair in zip(question.picture, fine, strict=True)]),
    ]
    path = folder / "occlusion.png"
    title = f"What hiding {side}x{side} pixels costs: {subject.name}"
    draw_rows(path, title, captions, columns, [(True, "hiding it helps the class", "hurts it")])
    document = {"size": side, "stride": stride, "images": numbers}
    caption = f"change of the class's logit when {side}x{side} pixels are hidden behind the mean colour"
    return View(((path, caption),), document, question.lines)
