# SPDX-License-Identifier: Apache-2.0
"""Bytes that call themselves pictures: a picture of bounded size, or a reason."""

import io
import struct
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from cnnjax.data.images import MAX_PIXELS, picture_to_array, picture_to_shape, read_picture
from tests.fuzz.tools import anything, bounded, fuzz

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
POLICIES = [
    SimpleNamespace(
        color=color, exif_orientation=True, image_size=size, resize=resize, crop_from=crop, interpolation="bilinear"
    )
    for color, size, resize, crop in (
        ("keep", (), "crop", 0),
        ("rgb", (8, 8), "crop", 16),
        ("gray", (4, 6), "fit", 0),
        ("rgb", (5, 5), "stretch", 0),
        ("gray", (40, 40), "pad", 0),
    )
]


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


def sound() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 200, zip=True)
    frames: dict[str, Any] = {"save_all": True, "append_images": [Image.fromarray(PIXELS[::-1])]}
    return [
        *(encoded("PNG", mode) for mode in ("RGB", "RGBA", "P", "L", "1", "LA")),
        encoded("PNG", pnginfo=text, exif=exif),
        encoded("PNG", **frames),
        encoded("JPEG", exif=exif),
        encoded("JPEG", progressive=True),
        encoded("JPEG", "CMYK"),
        encoded("GIF", **frames),
        encoded("BMP"),
        encoded("BMP", "P"),
        *(encoded("TIFF", compression=how) for how in (None, "tiff_lzw", "packbits", "jpeg", "tiff_deflate")),
        encoded("WEBP"),
        encoded("WEBP", "RGBA", lossless=True, exif=exif),
        encoded("WEBP", **frames),
        encoded("PPM"),
    ]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@st.composite
def png(draw: Any) -> bytes:
    """Chunks with right checksums and any content, so that it is the decoder behind them that is met."""
    side = st.sampled_from((0, 1, 2, 9, 40, 65535, 100_000, 2**31 - 1, 2**32 - 1))
    depth, color = draw(st.sampled_from((1, 2, 4, 8, 16, 3))), draw(st.sampled_from((0, 2, 3, 4, 6, 1)))
    head = struct.pack(">IIBBBBB", draw(side), draw(side), depth, color, 0, 0, draw(st.integers(0, 2)))
    chunks = [chunk(b"IHDR", head)]
    kinds = (b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"tEXt", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"gAMA", b"pHYs")
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=4)):
        bomb = b"a\0\0" + zlib.compress(bytes(draw(st.sampled_from((10, 2**21)))))
        chunks.append(chunk(kind, draw(st.one_of(st.binary(max_size=40), st.just(bomb)))))
    rows = zlib.compress(draw(st.one_of(st.binary(max_size=200), st.just(bytes(1000)), st.just(bytes(2**20)))))
    return b"\x89PNG\r\n\x1a\n" + b"".join([*chunks, chunk(b"IDAT", rows), chunk(b"IEND", b"")])


@fuzz(2, content=st.one_of(anything(*sound()), anything(*sound()), png()), policy=st.sampled_from(POLICIES))
def test_any_bytes_are_a_picture_or_a_reason(content: bytes, policy: Any):
    with bounded(OSError, ValueError):
        picture = read_picture(io.BytesIO(content))
        assert picture.width * picture.height <= MAX_PIXELS
        image = picture_to_array(picture, policy)
        assert image.dtype == np.uint8 and image.ndim == 3
        assert not policy.image_size or image.shape[:2] == policy.image_size
        assert picture_to_shape(picture, policy, (6, 5, 3)).shape == (6, 5, 3)


@pytest.mark.parametrize(("width", "height"), [(2_000_000, 1), (1, 2_000_000)])
def test_a_line_of_pixels_is_not_blown_up(width: int, height: int):
    """Scaled to a short side of 256 it would be 256 x 512,000,000 pixels."""
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    assert len(file.getvalue()) < 10_000
    with pytest.raises(ValueError, match="too narrow"):
        picture_to_array(read_picture(file), SimpleNamespace(**{**vars(POLICIES[1]), "crop_from": 256}))
