# SPDX-License-Identifier: Apache-2.0
import io

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import jpeg
from cnnjax.data.images import picture_to_array, read_picture
from cnnjax.data.jpeg import crop, decode, get_policy
from cnnjax.types import Config


def photo(height: int, width: int) -> Image.Image:
    """Smooth colours, which JPEG keeps, with an edge."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    image = np.stack([255 * x, 255 * y, 255 * (x > y)], axis=2)
    return Image.fromarray(image.astype(np.uint8))


def encoded(picture: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def turned(picture: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture, exif=exif)


FILES = {
    "colour": encoded(photo(40, 61)),
    "gray": encoded(photo(40, 61).convert("L")),
    "progressive": encoded(photo(40, 61), progressive=True, subsampling=0),
    "cmyk": encoded(photo(40, 61).convert("CMYK")),
    "turned": turned(photo(40, 61)),
    "png": encoded(photo(40, 61), "PNG"),
    "transparent": encoded(photo(40, 61).convert("RGBA"), "PNG"),
    "cut at the end": encoded(photo(40, 61)) + b"more",
}


@pytest.mark.parametrize("policy", [{}, {"image_size": (32, 24)}, {"color": "gray"}, {"exif_orientation": False}])
@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_pillow(data: Config, name: str, policy: dict[str, object]):
    data.update(policy)
    expected = picture_to_array(read_picture(io.BytesIO(FILES[name])), data)
    np.testing.assert_array_equal(decode(FILES[name], get_policy(data)), expected)


def test_plain_jpegs_do_not_pass_through_pillow(data: Config, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jpeg, "read_picture", None)
    for name in ("colour", "gray", "progressive"):
        assert decode(FILES[name], get_policy(data)).shape[:2] == (40, 61)
    with pytest.raises(TypeError):
        decode(FILES["png"], get_policy(data))


@pytest.mark.parametrize(("name", "mode", "channels"), [("gray", "RGB", 3), ("colour", "L", 1), ("png", "L", 1)])
def test_a_set_declares_its_colours(data: Config, name: str, mode: str, channels: int):
    assert decode(FILES[name], get_policy(data), mode).shape == (40, 61, channels)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", FILES["colour"][:300], b"no picture"])
def test_what_is_no_picture_is_told(data: Config, content: bytes):
    with pytest.raises((OSError, ValueError)):
        decode(content, get_policy(data))


def test_too_many_pixels_are_refused(data: Config, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cnnjax.data.images.MAX_PIXELS", 40 * 61 - 1)
    monkeypatch.setattr(jpeg, "MAX_PIXELS", 40 * 61 - 1)
    with pytest.raises(ValueError, match="pixels"):
        decode(FILES["colour"], get_policy(data))


def test_a_crop_is_a_box_of_the_whole_picture(data: Config):
    data.image_size = (8, 6)
    whole = np.asarray(read_picture(io.BytesIO(FILES["colour"])))
    box = whole[5 : 5 + 12, 7 : 7 + 10]
    expected = np.asarray(Image.fromarray(box).resize((6, 8), Image.Resampling.BILINEAR))
    found = crop(FILES["colour"], get_policy(data), lambda height, width: (5, 7, 12, 10))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["png", "cmyk", "turned"])
def test_other_pictures_are_cropped_upright(data: Config, name: str):
    data.image_size, sizes = (8, 6), []
    crop(FILES[name], get_policy(data), lambda *size: sizes.append(size) or (0, 0, *size))
    assert set(sizes) == {(61, 40) if name == "turned" else (40, 61)}


def test_a_large_box_is_decoded_at_a_smaller_scale(data: Config, monkeypatch: pytest.MonkeyPatch):
    file, decoded, original = encoded(photo(600, 800), quality=95), [], jpeg.simplejpeg.decode_jpeg
    monkeypatch.setattr(
        jpeg.simplejpeg, "decode_jpeg", lambda *a, **k: decoded.append(original(*a, **k)) or decoded[-1]
    )
    data.image_size = (100, 100)
    small = crop(file, get_policy(data), lambda *size: (100, 200, 400, 401))
    assert decoded[-1].shape == (150, 200, 3)
    whole = np.asarray(read_picture(io.BytesIO(file)))[100:500, 200:601]
    exact = np.asarray(Image.fromarray(whole).resize((100, 100), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(small - exact).mean() < 1.5
    crop(file, get_policy(data), lambda *size: (100, 200, 199, 401))
    assert decoded[-1].shape == (600, 800, 3)
