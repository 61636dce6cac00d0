# SPDX-License-Identifier: Apache-2.0
"""The ranges of `config.augment`: what is out of range is told before anything compiles."""

from collections.abc import Callable
from typing import Any

from cnnjax.errors import UsageError, unknown
from cnnjax.types import Config

FILLS = ("black", "mean", "edge", "reflect")
MIRROR_MODES = ("random", "alternating")

Rule = tuple[Callable[[Any], bool], str]


def _within(low: float, high: float, what: str) -> Rule:
    return lambda value: low <= value <= high, what


def _interval(low: float, high: float, what: str) -> Rule:
    return lambda value: len(value) == 2 and low < value[0] <= value[1] <= high, what


_FRACTION = _within(0, 1, "in 0..1")
_WHOLE: Rule = (lambda value: isinstance(value, int) and value >= 0, "a whole number of pixels, 0 or more")
_POSITIVE_RANGE = _interval(0, 1e6, "a range (low, high) with 0 < low <= high")
_NOT_NEGATIVE = _within(0, 1e6, "0 or more")

_RULES: dict[str, Rule] = {
    "mirror": _FRACTION,
    "crop_area": _interval(0, 1, "a range (low, high) with 0 < low <= high <= 1"),
    "crop_aspect": _POSITIVE_RANGE,
    "shift": _WHOLE,
    "rotate": _within(0, 180, "in 0..180 degrees"),
    "shear": _within(0, 80, "in 0..80 degrees"),
    "scale": _POSITIVE_RANGE,
    "brightness": _FRACTION,
    "contrast": _FRACTION,
    "channel_gain": _FRACTION,
    "saturation": _FRACTION,
    "pca_noise": _NOT_NEGATIVE,
    "cutout": _WHOLE,
    "erase": _FRACTION,
    "mixup": _NOT_NEGATIVE,
    "cutmix": _NOT_NEGATIVE,
    "noise": _FRACTION,
    "noise_drop": _within(0, 0.999, "in 0..1, below 1"),
}


def check_numbers(augment: Config) -> None:
    """Raises UsageError for the first value of `config.augment` that is out of range."""
    for key, (accepts, what) in _RULES.items():
        if not accepts(augment[key]):
            raise UsageError(f"config.augment.{key} = {augment[key]!r} is out of range: it must be {what}")
    if augment.fill not in FILLS:
        raise UsageError(unknown("config.augment.fill", augment.fill, FILLS))
    if augment.mirror_mode not in MIRROR_MODES:
        raise UsageError(unknown("config.augment.mirror_mode", augment.mirror_mode, MIRROR_MODES))


def check_image(augment: Config, shape: tuple[int, ...]) -> None:
    """Raises UsageError for the first augmentation that images of `shape` [H,W,C] cannot have."""
    height, width, channels = shape
    if augment.shift >= min(height, width):
        raise UsageError(f"config.augment.shift = {augment.shift} moves images of {height}x{width} pixels out of sight")
    if augment.cutout > min(height, width):
        raise UsageError(f"config.augment.cutout = {augment.cutout} is larger than the image, {height}x{width} pixels")
    for key in ("saturation", "pca_noise"):
        if augment[key] > 0 and channels != 3:
            raise UsageError(
                f"config.augment.{key} needs RGB images, and these have {channels} channel(s); "
                "set it to 0, or config.data.color to 'rgb'"
            )
