# SPDX-License-Identifier: Apache-2.0
"""Stored pictures to pixels as fast as is safe: JPEG by libjpeg-turbo itself, everything else by Pillow.

At full size the pixels are those of Pillow, bit for bit: both call libjpeg-turbo with its accurate transform. Only
crops are decoded at a half, a quarter or an eighth, and only where the crop is then still as large as its result.
"""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from cnnjax.data.images import INTERPOLATIONS, MAX_PIXELS, ORIENTATION_TAG, picture_to_array, read_picture, scaled
from cnnjax.types import Config

Box = tuple[int, int, int, int]
"""(top, left, height, width) in pixels of a picture, turned upright."""

_MAY_BE_TURNED = (b"Exif", b"tiff:Orientation")  # one of them is in every file that says which way up it is
_CHANNELS = {"Gray": "GRAY", "YCbCr": "RGB"}  # of plain JPEGs; CMYK and the like are left to Pillow


class Policy(NamedTuple):
    """What a picture becomes: the keys of config.data of the same names, as worker processes take them."""

    color: str
    exif_orientation: bool
    image_size: tuple[int, ...]
    resize: str
    crop_from: int
    interpolation: str


def get_policy(data: Config) -> Policy:
    """The picture keys of config.data."""
    values = {name: data[name] for name in Policy._fields}
    return Policy(**{**values, "image_size": tuple(data.image_size)})


def decode(encoded: bytes, policy: Policy, mode: str = "") -> np.ndarray:
    """A stored picture as the data set holds it: the pixels that `picture_to_array(read_picture(...))` gives.

    Args:
      encoded: the picture's file.
      policy: what it becomes.
      mode: the colours that the set declares its pictures to have, "L" or "RGB"; "": as stored.

    Returns:
      uint8 [H,W,C].

    Raises:
      OSError, ValueError: it is no picture, is damaged or too large.
    """
    size = _plain_size(encoded, policy.exif_orientation)
    pixels = None if size is None else _decoded(encoded, size, 1)
    return picture_to_array(_declared(read_picture(io.BytesIO(encoded)) if pixels is None else pixels, mode), policy)


def crop(encoded: bytes, policy: Policy, choose: Callable[[int, int], Box], mode: str = "") -> np.ndarray:
    """A box of a stored picture, resized to `policy.image_size`; raises as `decode` does.

    Args:
      encoded: the picture's file.
      policy: what it becomes; reads color, exif_orientation, image_size (which must be set) and interpolation.
      choose: `choose(height, width) -> box`, a pure function.
      mode: as for `decode`.

    Returns:
      uint8 [*image_size,C].
    """
    whole = policy._replace(image_size=(), crop_from=0)
    size, pixels = _plain_size(encoded, policy.exif_orientation), None
    if size is not None:
        pixels = _decoded(encoded, size, _reduction(choose(*size)[2:], policy.image_size))
    if size is None or pixels is None:
        array = picture_to_array(_declared(read_picture(io.BytesIO(encoded)), mode), whole)
        size = array.shape[0], array.shape[1]
    else:
        array = picture_to_array(_declared(pixels, mode), whole)
    top, left, height, width = choose(*size)
    down, across = array.shape[0] / size[0], array.shape[1] / size[1]
    bottom, right = min((top + height) * down, array.shape[0]), min((left + width) * across, array.shape[1])
    y, x = math.floor(top * down), math.floor(left * across)
    inside = array[y : math.ceil(bottom), x : math.ceil(right)]  # what lies outside has no part in the resampling
    part = (left * across - x, top * down - y, right - x, bottom - y)
    target = policy.image_size[0], policy.image_size[1]
    return scaled(inside, target, INTERPOLATIONS[policy.interpolation], part)


def _reduction(box: Sequence[int], target: Sequence[int]) -> int:
    """By how much the picture may be decoded smaller: the box is still at least as large as the target."""
    return max(k for k in (1, 2, 4, 8) if k == 1 or all(b >= k * t for b, t in zip(box, target, strict=True)))


def _plain_size(encoded: bytes, upright: bool) -> tuple[int, int] | None:
    """(height, width) of a JPEG that needs nothing but decoding; None of everything else, sound or not."""
    try:
        header: Any = simplejpeg.decode_jpeg_header(encoded)
    except ValueError:
        return None
    height, width, colors, _ = header
    if colors not in _CHANNELS or height * width > MAX_PIXELS:
        return None
    if upright and any(word in encoded for word in _MAY_BE_TURNED):
        try:
            with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as picture:
                if picture.getexif().get(ORIENTATION_TAG, 1) != 1:
                    return None
        except Exception:  # damaged EXIF data: Pillow's own path knows what to make of it
            return None
    return height, width


def _decoded(encoded: bytes, size: tuple[int, int], reduction: int) -> np.ndarray | None:
    """Pixels [H,W,C] of a plain JPEG at 1/reduction; None where the decoder has anything to object."""
    try:
        colors = simplejpeg.decode_jpeg_header(encoded)[2]
        height, width = (-(-side // reduction) for side in size)
        least: Any = {"min_height": height, "min_width": width, "min_factor": reduction} if reduction > 1 else {}
        return simplejpeg.decode_jpeg(encoded, _CHANNELS[colors], **least)
    except ValueError:
        return None


def _declared(picture: Image.Image | np.ndarray, mode: str) -> Image.Image | np.ndarray:
    """The picture in the colours that its set declares: some hold gray files among their colour ones."""
    if isinstance(picture, np.ndarray):
        if not mode or picture.shape[2] == len(mode):  # "L" is one channel, "RGB" three
            return picture
        return np.asarray(Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).convert(mode))
    return picture.convert(mode) if mode and picture.mode in ("L", "RGB") and picture.mode != mode else picture
