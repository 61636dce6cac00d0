# SPDX-License-Identifier: Apache-2.0
"""Which pixels the answer hangs on: gradient, SmoothGrad, guided backpropagation, integrated gradients."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.see.program import count_relus, with_guided_relu
from cnnjax.see.saliency import Completeness, integrated_gradients, magnitude, make_gradient, signed, smooth_grad
from cnnjax.views.drawing import Column, ask, black, draw_rows, mean_color, signed_map, unsigned_map
from cnnjax.views.subject import Choice, Subject, View

DEFAULT = True
_TOLERANCE = 0.05  # relative error of the sum, above which integrated gradients are not to be trusted
_STEPS = (64, 256)  # of the way; the second where the first do not suffice


def draw(subject: Subject, choice: Choice, folder: Path) -> View:
    """A row for each image, a map for each method; and the check that integrated gradients add up."""
    question = ask(subject, choice)
    image, target = question.image, jnp.asarray(question.target)
    network = (subject.params, subject.model_state)
    explain = make_gradient(subject.model, *network)
    lines = list(question.lines)

    columns = [Column("picture", list(question.picture))]
    columns.append(_unsigned("gradient", explain(image, target)[1]))
    smooth = smooth_grad(explain, image, target, jax.random.key(choice.seed))
    columns.append(_unsigned("SmoothGrad", smooth))
    num_relus = count_relus(subject.model, *network, image[:1])
    if num_relus:
        guided = make_gradient(with_guided_relu(subject.model), *network)(image, target)[1]
        columns.append(_unsigned("guided\nbackpropagation", guided))
    else:
        lines.append("no guided backpropagation: the network has no ReLU, so it would be the plain gradient")

    checks = {}
    baselines = {"black": black(subject), "mean colour": mean_color(subject)}
    for name, baseline in baselines.items():
        for num_steps in _STEPS:
            attributions, check = integrated_gradients(explain, image, target, baseline, num_steps=num_steps)
            if check.relative_error.max() <= _TOLERANCE:
                break
        pictures = [signed_map(each) for each in np.asarray(signed(attributions))]
        columns.append(Column(f"integrated gradients\nfrom {name}", pictures))
        checks[name] = _check_numbers(check, num_steps)
        lines += _check_lines(name, check, num_steps, question.numbers)

    path = folder / "saliency.png"
    keys = [(False, "no effect", "strong"), (True, "against the class", "for it")]
    draw_rows(path, f"Which pixels the answer hangs on: {subject.name}", question.captions, columns, keys)
    caption = "gradients of the class's logit by each pixel; each map has its own scale"
    numbers = {"images": question.numbers, "num_relus": num_relus, "completeness": checks}
    return View(((path, caption),), numbers, tuple(lines))


def _unsigned(name: str, attributions: jax.Array) -> Column:
    return Column(name, [unsigned_map(each) for each in np.asarray(magnitude(attributions))])


def _check_numbers(check: Completeness, num_steps: int) -> dict[str, Any]:
    return {"num_steps": num_steps, **{name: values.tolist() for name, values in check._asdict().items()}}


def _check_lines(name: str, check: Completeness, num_steps: int, images: list[dict[str, Any]]) -> list[str]:
    error, worst = check.relative_error, int(np.argmax(check.relative_error))
    lines = [
        f"integrated gradients from {name}: attributions add up to the change of the logit within "
        f"{error[worst]:.2%} (median {np.median(error):.2%}; {num_steps} steps)"
    ]
    if error[worst] > _TOLERANCE:
        lines.append(
            f"warning: for {images[worst]['image']} they add up to {check.total[worst]:.4g} instead of "
            f"{check.difference[worst]:.4g}; do not trust this map"
        )
    return lines
