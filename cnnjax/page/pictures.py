# SPDX-License-Identifier: Apache-2.0
"""Pictures inside a page: arrays and files as data URIs, small enough for a page that is passed on."""

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

_LARGEST_EXACT = 64  # pixels: pictures up to this side are stored as they are, larger ones as JPEG
_FILE_BYTES = 500_000  # a file above this is stored as JPEG
_FILE_SIDE = 1800  # pixels, of such a file


def data_uri(image: np.ndarray) -> str:
    """A picture uint8 [H,W,C], C 1 (gray), 3 (RGB) or 4 (RGBA), as a data URI."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if max(image.shape[:2]) > _LARGEST_EXACT and image.shape[-1] < 4:
        return _encode(picture, "jpeg", quality=88)
    return _encode(picture, "png", optimize=True)


def reduced(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 [H,W,C] as a picture of 1 or 3 channels, no larger than `side` pixels either way, proportions kept.

    Of other channels than 1 and 3, which are no picture, the first three are shown as one, or the first as gray.
    """
    if image.shape[-1] not in (1, 3):
        image = image[..., : 3 if image.shape[-1] > 3 else 1]
    factor = max(image.shape[:2]) / side
    if factor <= 1:
        return image
    size = (max(round(image.shape[1] / factor), 1), max(round(image.shape[0] / factor), 1))
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    small = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
    return small.reshape(*small.shape[:2], image.shape[-1])


def row(images: Sequence[np.ndarray], gap: int = 2) -> np.ndarray:
    """Pictures [H,W,C] of one size side by side, uint8 [H,W',4], clear between them."""
    return grid(images, len(images), gap)


def grid(images: Sequence[np.ndarray], columns: int, gap: int = 1) -> np.ndarray:
    """Pictures [H,W,C] of one size in rows, uint8 [H',W',4], clear between them."""
    height, width, _ = images[0].shape
    rows = math.ceil(len(images) / columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width, :3] = image
        sheet[top : top + height, left : left + width, 3] = 255
    return sheet


def embed_file(path: Path) -> str:
    """A picture file as a data URI; one of many bytes is reduced.

    Raises:
      OSError: it cannot be read, or is no picture.
    """
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        if len(content) <= _FILE_BYTES and picture.format == "PNG":
            return _uri(content, "png")
        flat = Image.new("RGB", picture.size, "white")
        flat.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
    flat.thumbnail((_FILE_SIDE, _FILE_SIDE))
    return _encode(flat, "jpeg", quality=85)


def _encode(picture: Image.Image, kind: str, **options: object) -> str:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return _uri(content.getvalue(), kind)


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
