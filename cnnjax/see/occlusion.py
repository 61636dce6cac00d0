# SPDX-License-Identifier: Apache-2.0
"""Occlusion: what the answer loses when a patch of the image is hidden."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import RunError, UsageError
from cnnjax.types import Array, Model, ModelState, Params


class Occlusion(NamedTuple):
    """What a network says of images with a patch hidden, for every place of the patch.

    Attributes:
      top: int [R], the first row of the patch.
      left: int [S], its first column.
      size: (height, width) of the patch, pixels.
      logit: float32 [B,R,S], of the class asked about.
      probability: float32 [B,R,S], likewise, 0..1.
      whole_logit: float32 [B], with nothing hidden.
      whole_probability: float32 [B], likewise.
    """

    top: np.ndarray
    left: np.ndarray
    size: tuple[int, int]
    logit: np.ndarray
    probability: np.ndarray
    whole_logit: np.ndarray
    whole_probability: np.ndarray


def occlude(
    model: Model,
    params: Params,
    model_state: ModelState,
    image: Array,
    target: Array | np.ndarray,
    baseline: Array,
    *,
    size: tuple[int, int],
    stride: int,
    batch_size: int = 128,
) -> Occlusion:
    """Slides a patch over the images and asks the network each time; no gradient is needed.

    The last place along an axis is flush with the border, whatever the stride, so that every pixel is hidden once.

    Args:
      model: any pair of functions.
      params: as `model.init` makes them.
      model_state: likewise.
      image: float32 [B,H,W,C], as the network takes it.
      target: int32 [B], the classes asked about.
      baseline: what the patch shows, in the network's input; broadcast to [H,W,C].
      size: (height, width) of the patch in pixels.
      stride: pixels from one place to the next; at most the patch's size, else pixels are left out.
      batch_size: images a call of the network, which bounds the memory.

    Raises:
      UsageError: a patch larger than the image, or a stride that leaves pixels out.
      RunError: the network has no logits.

    Reference: Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2.
    """
    num, height, width, _ = image.shape
    if not (0 < size[0] <= height and 0 < size[1] <= width):
        raise UsageError(f"a patch of {size[0]}x{size[1]} pixels does not fit an image of {height}x{width}")
    if not 0 < stride <= min(size):
        raise UsageError(f"a stride of {stride} pixels leaves gaps; it must be from 1 to the patch's {min(size)}")
    tops, lefts = _places(height, size[0], stride), _places(width, size[1], stride)
    cover = jnp.broadcast_to(jnp.asarray(baseline), image.shape[1:])

    @jax.jit
    def ask(params: Params, model_state: ModelState, image: Array, target: Array, query: Array) -> Array:
        """Logit and probability [2,b] for queries [b,3]: image, top and left of the patch; a top of H hides nothing."""
        which, top, left = query.T
        rows, columns = jnp.arange(height)[None], jnp.arange(width)[None]
        in_rows = (rows >= top[:, None]) & (rows < top[:, None] + size[0])
        in_columns = (columns >= left[:, None]) & (columns < left[:, None] + size[1])
        hidden = in_rows[:, :, None, None] & in_columns[:, None, :, None]
        outputs, _ = model.apply(params, model_state, jnp.where(hidden, cover[None], image[which]), train=False)
        if "logits" not in outputs:
            raise RunError("the network has no logits, so there is no class to explain")
        logits, asked = outputs["logits"], target[which][:, None]
        both = (logits, jax.nn.softmax(logits))
        return jnp.stack([jnp.take_along_axis(each, asked, axis=1)[:, 0] for each in both])

    grid = np.stack(np.meshgrid(np.arange(num), tops, lefts, indexing="ij"), axis=-1).reshape(-1, 3)
    whole = np.stack([np.arange(num), np.full(num, height), np.zeros(num, int)], axis=-1)
    queries = np.concatenate([whole, grid]).astype(np.int32)
    batch_size = min(batch_size, len(queries))
    padded = np.concatenate([queries, np.zeros((-len(queries) % batch_size, 3), np.int32)])  # one shape, compiled once
    classes = jnp.asarray(target, jnp.int32)
    answers = [
        np.asarray(ask(params, model_state, image, classes, padded[i : i + batch_size]))
        for i in range(0, len(padded), batch_size)
    ]
    logit, probability = np.concatenate(answers, axis=1)[:, : len(queries)]
    shape = (num, len(tops), len(lefts))
    return Occlusion(
        tops,
        lefts,
        size,
        logit[num:].reshape(shape),
        probability[num:].reshape(shape),
        logit[:num],
        probability[:num],
    )


def spread(result: Occlusion, drop: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[B,H,W]: for each pixel of an image of `size` (H, W), the mean of `drop` [B,R,S] over the patches that hid it."""
    down, across = (
        (np.arange(length)[None] >= start[:, None]) & (np.arange(length)[None] < start[:, None] + patch)
        for length, start, patch in zip(size, (result.top, result.left), result.size, strict=True)
    )
    total = np.einsum("brs,rh,sw->bhw", drop, down, across)
    return (total / np.outer(down.sum(axis=0), across.sum(axis=0))[None]).astype(np.float32)


def _places(length: int, patch: int, stride: int) -> np.ndarray:
    """The first pixels of patches along an axis."""
    starts = [*range(0, length - patch + 1, stride)]
    return np.array(starts if starts[-1] == length - patch else [*starts, length - patch])
