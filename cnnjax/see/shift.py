# SPDX-License-Identifier: Apache-2.0
"""How far a network's intermediates and answers move when the image is shifted, rotated or scaled."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.augment.geometry import Fill, translate, warp
from cnnjax.errors import UsageError, unknown
from cnnjax.types import Array, Model, ModelState, Params

INPUT = "input"
"""The name under which the pixels themselves are measured: what a network without any layer would feel."""

MoveFn = Callable[[Array, Array, Array], Array]
"""`move(image [B,H,W,C], amount [], turn int [B]) -> [B,H,W,C]`; `turn` counts images, to alternate directions."""

_DOWN, _RIGHT = np.array([0, 0, 1, -1]), np.array([1, -1, 0, 0])


class Sensitivity(NamedTuple):
    """The effect of moving an image by each of S amounts.

    Attributes:
      amount: float [S].
      distance: for each name float [S]: the root mean square distance between an output of the image and of the image
        moved, in units of that between two different images. 0: nothing changed, 1: as good as another image.
      agreement: float [S], share of images with the same answer as when unmoved; None without logits.
      accuracy: float [S], share of right answers; None without logits.
    """

    amount: np.ndarray
    distance: dict[str, np.ndarray]
    agreement: np.ndarray | None
    accuracy: np.ndarray | None


def shifted(most: int, fill: Fill = None) -> MoveFn:
    """Whole pixels, at most `most`: right, left, down, up, an image after the other.

    What enters is the nearest pixel, or the colour `fill` [1,1,C] of the network's input.
    """

    def move(image: Array, amount: Array, turn: Array) -> Array:
        whole = jnp.round(amount).astype(jnp.int32)
        down, right = (jnp.asarray(way)[turn % 4] * whole for way in (_DOWN, _RIGHT))
        return jax.vmap(lambda image, down, right: translate(image, down, right, most=most, fill=fill))(
            image, down, right
        )

    return move


def rolled(image: Array, amount: Array, turn: Array) -> Array:
    """As `shifted`, but what leaves at one side enters at the other: nothing is lost, nothing added."""
    whole = jnp.round(amount).astype(jnp.int32)
    down, right = (jnp.asarray(way)[turn % 4] * whole for way in (_DOWN, _RIGHT))
    return jax.vmap(lambda image, down, right: jnp.roll(image, (down, right), axis=(0, 1)))(image, down, right)


def rotated(fill: Fill = None) -> MoveFn:
    """Degrees about the centre, images in turn counter-clockwise and clockwise; bilinear."""

    def move(image: Array, amount: Array, turn: Array) -> Array:
        angle = jnp.deg2rad(amount) * jnp.where(turn % 2 == 0, 1.0, -1.0)
        return jax.vmap(lambda image, angle: warp(image, jnp.cos(angle), jnp.sin(angle), 0.0, 1.0, fill=fill))(
            image, angle
        )

    return move


def scaled(fill: Fill = None) -> MoveFn:
    """Magnification about the centre; bilinear, without an anti-aliasing filter below 1."""

    def move(image: Array, amount: Array, turn: Array) -> Array:
        del turn
        return jax.vmap(lambda image: warp(image, 1.0, 0.0, 0.0, amount, fill=fill))(image)

    return move


def sensitivity(
    model: Model,
    params: Params,
    model_state: ModelState,
    image: Array,
    label: np.ndarray,
    move: MoveFn,
    amount: Sequence[float],
    layers: Sequence[str],
    *,
    batch_size: int = 64,
) -> Sensitivity:
    """Moves images and compares what the network makes of them with what it made of them unmoved.

    Args:
      model: any pair of functions.
      params: as `model.init` makes them.
      model_state: likewise.
      image: float32 [N,H,W,C], as the network takes it; two and more.
      label: int [N].
      move: what is done to them.
      amount: S numbers for it.
      layers: outputs to measure, beside the input and the logits.
      batch_size: images at once, which bounds the memory.

    Raises:
      UsageError: no such layer, or a single image.
    """
    if len(image) < 2:
        raise UsageError("one image has no other to be compared with; give two or more")

    @jax.jit
    def look(params: Params, model_state: ModelState, image: Array) -> dict[str, Array]:
        outputs, _ = model.apply(params, model_state, image, train=False)
        if missing := [name for name in layers if name not in outputs]:
            raise UsageError(unknown("layer", missing[0], outputs))
        wanted = [*layers, *(["logits"] if "logits" in outputs and "logits" not in layers else [])]
        values = {INPUT: image, **{name: outputs[name] for name in wanted}}
        return {name: value.astype(jnp.float32).reshape(value.shape[0], -1) for name, value in values.items()}

    @jax.jit
    def compare(
        params: Params, model_state: ModelState, image: Array, amount: Array, turn: Array, before: dict[str, Array]
    ) -> tuple[dict[str, Array], Array]:
        after = look(params, model_state, move(image, amount, turn))
        return {name: jnp.sum((after[name] - before[name]) ** 2, axis=1) for name in before}, _answer(after)

    total: dict[str, np.ndarray] = {}
    answers, center, first, squares = [], {}, {}, {}
    for start in range(0, len(image), batch_size):
        rows = image[start : start + batch_size]
        before = look(params, model_state, rows)
        if not total:  # the spread is summed about the first batch's mean, so that no large numbers cancel
            total = {name: np.zeros(len(amount)) for name in before}
            center = {name: value.mean(axis=0, keepdims=True) for name, value in before.items()}
        for name, value in before.items():
            away = value - center[name]
            first[name] = first.get(name, 0.0) + np.asarray(away.sum(axis=0), np.float64)
            squares[name] = squares.get(name, 0.0) + float(jnp.sum(away**2))
        turn = jnp.arange(start, start + len(rows))
        found = [np.asarray(_answer(before))]
        for i, number in enumerate(amount):
            change, answer = compare(params, model_state, rows, jnp.float32(number), turn, before)
            found.append(np.asarray(answer))
            for name, value in change.items():
                total[name][i] += float(value.sum())
        answers.append(np.stack(found))

    num = len(image)
    # The mean squared distance of two different images is twice the variance (with num - 1 below), summed over places.
    apart = {name: 2 * (squares[name] - (first[name] ** 2).sum() / num) / (num - 1) for name in total}
    distance = {
        name: np.sqrt(total[name] / num / apart[name]) if apart[name] > 0 else np.zeros(len(amount))
        for name in sorted(total, key=[INPUT, *layers, "logits"].index)  # jit sorted them by name
    }
    if "logits" not in total:
        return Sensitivity(np.asarray(amount, float), distance, None, None)
    unmoved, moved = np.split(np.concatenate(answers, axis=1), [1])
    agreement = (moved == unmoved).mean(axis=1)
    return Sensitivity(np.asarray(amount, float), distance, agreement, (moved == label[None]).mean(axis=1))


def _answer(values: dict[str, Array]) -> Array:
    """[B] int32; zeros without logits."""
    logits = values.get("logits")
    return jnp.zeros(len(values[INPUT]), jnp.int32) if logits is None else jnp.argmax(logits, axis=1)
