# SPDX-License-Identifier: Apache-2.0
"""Views: the several pictures that are shown to a network in place of one, and the weight of each.

All views of one `Views` have the same shape and differ in a few numbers only, so that one compiled program makes
every one of them.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.augment import make_augment, needs_partner
from cnnjax.errors import UsageError
from cnnjax.types import Array, Config

MakeView = Callable[[Array, Array, Mapping[str, Array]], Array]
"""`make(image, example, row)`: float32 [B,H,W,C] in 0..1 and row numbers [B] to the view [B,h,w,C]."""

# The stream of the run's key that random views draw from; training's augmentation has others.
VIEW_STREAM = 0x76696577


class Views(NamedTuple):
    """V pictures made from each stored one.

    Attributes:
      rows: the numbers of each view, arrays [V,...]; `make` takes one row of them.
      weight: [V] float32, the share of each view in the average; they add up to 1.
      make: the view itself, pure.
    """

    rows: Mapping[str, np.ndarray]
    weight: np.ndarray
    make: MakeView


def whole(*, mirrored: bool) -> Views:
    """The picture as it is, and with `mirrored` its left-right mirror image too."""
    flags = np.array([False, True][: 1 + mirrored])

    def make(image: Array, example: Array, row: Mapping[str, Array]) -> Array:
        del example
        return _mirror(image, row["mirror"])

    return Views({"mirror": flags}, _equal(len(flags)), make)


def centre(size: tuple[int, int], crop: tuple[int, int]) -> Views:
    """The middle `crop` of pictures of `size`, both (height, width) in pixels."""
    return _crops([_middle(size, crop)], crop, mirrored=False)


def ten_crops(size: tuple[int, int], crop: tuple[int, int]) -> Views:
    """The four corners, the middle, and the mirror images of these five.

    Reference: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012,
    section 4.1.
    """
    bottom, right = size[0] - crop[0], size[1] - crop[1]
    return _crops([(0, 0), (0, right), (bottom, 0), (bottom, right), _middle(size, crop)], crop, mirrored=True)


def mirror_shift() -> Views:
    """The picture and its mirror image with a half, and both moved one pixel up-left and down-right with the other.

    What enters at the border is the picture's own reflection.

    Reference: Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024, arXiv:2404.00498, section 3.5
    (`infer_mirror_translate` of its code).
    """
    place = np.repeat(np.array([[1, 1], [0, 0], [2, 2]], np.int32), 2, axis=0)
    weight = np.array([0.25, 0.25, 0.125, 0.125, 0.125, 0.125], np.float32)

    def make(image: Array, example: Array, row: Mapping[str, Array]) -> Array:
        del example
        padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        return _mirror(_cut(padded, row["place"], image.shape[1:3]), row["mirror"])

    return Views({"place": place, "mirror": np.tile([False, True], 3)}, weight, make)


def augmented(augment: Config, mean: tuple[float, ...], *, seed: int, num_views: int) -> Views:
    """The picture as it is, then `num_views - 1` of what training's augmentation makes of it.

    A view is a function of (seed, example, view) alone: not of the batch, the batch size or the number of views.

    Args:
      augment: `config.augment`; mixing (mixup, cutmix) is left out, as its labels are no longer the picture's.
      mean: `config.data.mean`.
      seed: `config.seed`.
      num_views: V, 2 or more.

    Raises:
      UsageError: `augment` switches nothing on that changes a picture by itself, or a number is out of range.
    """
    if num_views < 2:
        raise UsageError(f"config.eval.num_views = {num_views}: the first view is the picture itself; take 2 or more")
    augment = augment.copy_and_resolve_references()
    with augment.unlocked():
        augment.mirror_mode = "random"  # views have no epochs to alternate between
    augment = augment.copy_and_resolve_references()
    with augment.unlocked():
        augment.mirror_mode = "random"  # alternating flips go by the epoch, and a view has none
    change = make_augment(augment, mean)
    if not _changes(augment):
        mixing = " but mixing, which has no view of its own" if needs_partner(augment) else ""
        raise UsageError(
            f"config.augment switches nothing on{mixing}: add --config.augment.mirror=0.5 or the like, or take "
            "--config.eval.views=mirror"
        )

    def make(image: Array, example: Array, row: Mapping[str, Array]) -> Array:
        base = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), VIEW_STREAM), row["view"])
        keys = jax.vmap(lambda number: jax.random.fold_in(base, number))(example)
        return jnp.where(row["view"] == 0, image, change(keys, image))

    return Views({"view": np.arange(num_views, dtype=np.int32)}, _equal(num_views), make)


def _changes(augment: Config) -> bool:
    """Whether `make_augment` has anything to do."""
    ranges = any(tuple(augment[name]) != (1.0, 1.0) for name in ("crop_area", "scale"))
    passive = ("mirror_mode", "crop_area", "crop_aspect", "scale", "fill", "mixup", "cutmix")
    return ranges or any(augment[name] > 0 for name in augment if name not in passive)


def _crops(corners: list[tuple[int, int]], crop: tuple[int, int], *, mirrored: bool) -> Views:
    sides = 1 + mirrored
    place = np.tile(np.array(corners, np.int32), (sides, 1))
    flags = np.repeat([False, True][:sides], len(corners))

    def make(image: Array, example: Array, row: Mapping[str, Array]) -> Array:
        del example
        return _mirror(_cut(image, row["place"], crop), row["mirror"])

    return Views({"place": place, "mirror": flags}, _equal(len(place)), make)


def _middle(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """The corner of the middle crop, rounded as data.images does for training's."""
    top, left = (round((whole - part) / 2) for whole, part in zip(size, crop, strict=True))
    return top, left


def _cut(image: Array, place: Array, crop: tuple[int, ...]) -> Array:
    start = (0, place[0], place[1], 0)
    return jax.lax.dynamic_slice(image, start, (image.shape[0], *crop, image.shape[3]))


def _mirror(image: Array, flag: Array) -> Array:
    return jnp.where(flag, image[:, :, ::-1], image)


def _equal(count: int) -> np.ndarray:
    return np.full(count, 1 / count, np.float32)
