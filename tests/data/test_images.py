# SPDX-License-Identifier: Apache-2.0
import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import images
from cnnjax.data.images import check_policy, picture_to_array, picture_to_shape, read_picture
from cnnjax.errors import UsageError
from cnnjax.types import Config

GRAY = np.array([[0, 100, 200], [50, 150, 250]], np.uint8)
RED = np.full((2, 3, 3), (255, 0, 0), np.uint8)


def from_file(picture: Image.Image, path: Path, **options: object) -> Image.Image:
    picture.save(path, **options)  # type: ignore[arg-type]
    return read_picture(path)


@pytest.mark.parametrize(("color", "channels"), [("keep", 1), ("gray", 1), ("rgb", 3)])
def test_gray_pictures(data: Config, color: str, channels: int):
    data.color = color
    for picture in (Image.fromarray(GRAY), GRAY, GRAY[:, :, None]):
        array = picture_to_array(picture, data)
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, np.repeat(GRAY[:, :, None], channels, axis=2))


@pytest.mark.parametrize(("color", "value"), [("keep", [255, 0, 0]), ("gray", [76]), ("rgb", [255, 0, 0])])
def test_colour_pictures(data: Config, color: str, value: list[int]):
    data.color = color
    for picture in (Image.fromarray(RED), RED):  # luma of red: 0.299 * 255 = 76.2
        array = picture_to_array(picture, data)
        assert array.shape == (2, 3, len(value))
        assert (array == value).all()


def test_palette_becomes_rgb(data: Config, tmp_path: Path):
    picture = from_file(Image.fromarray(RED).convert("P"), tmp_path / "p.png")
    assert picture.mode == "P"
    np.testing.assert_array_equal(picture_to_array(picture, data), RED)


def test_one_bit_becomes_black_and_white(data: Config, tmp_path: Path):
    picture = from_file(Image.fromarray(np.array([[True, False]])), tmp_path / "1.png")
    assert picture.mode == "1"
    assert picture_to_array(picture, data).ravel().tolist() == [255, 0]
    assert picture_to_array(np.array([[True, False]]), data).ravel().tolist() == [255, 0]


def test_alpha_lies_on_white(data: Config, tmp_path: Path):
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    white_mixed = [[255, 0, 0], [255, 255, 255], [204, 204, 204]]  # 255 * (1 - 51 / 255) = 204
    for picture in (from_file(Image.fromarray(pixels), tmp_path / "a.png"), pixels):
        assert picture_to_array(picture, data)[0].tolist() == white_mixed
    gray_alpha = from_file(Image.fromarray(np.array([[[7, 255], [7, 0]]], np.uint8), "LA"), tmp_path / "la.png")
    assert gray_alpha.mode == "LA"
    assert picture_to_array(gray_alpha, data).tolist() == [[[7], [255]]]


def test_transparent_palette_entry_lies_on_white(data: Config, tmp_path: Path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture = from_file(picture, tmp_path / "t.gif", transparency=1)
    assert picture_to_array(picture, data).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_16_bits_are_rounded_to_8(data: Config, tmp_path: Path):
    values = np.array([[0, 128, 129, 257, 65406, 65407, 65535]], np.uint16)
    expected = [0, 0, 1, 1, 254, 255, 255]  # v / 257, rounded: 128 / 257 = 0.498, 65406 / 257 = 254.498
    picture = from_file(Image.fromarray(values), tmp_path / "16.png")
    assert picture.mode.startswith("I")
    assert picture_to_array(picture, data).ravel().tolist() == expected
    assert picture_to_array(values, data).ravel().tolist() == expected
    assert picture_to_array(Image.fromarray(values.astype(np.int32)), data).ravel().tolist() == expected


def test_cmyk_becomes_rgb(data: Config, tmp_path: Path):
    picture = from_file(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "c.jpg", quality=100)
    assert picture.mode == "CMYK"
    np.testing.assert_allclose(picture_to_array(picture, data)[0, 0], [255, 0, 0], atol=3)


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(np.zeros((2, 2), np.float32)),
        Image.fromarray(np.full((2, 2), 70000, np.int32)),
        np.zeros((2, 2), np.float32),
        np.zeros((2, 2), np.int64),
        np.zeros((0, 2), np.uint8),
        np.zeros((2, 2, 2, 2), np.uint8),
    ],
)
def test_pixels_without_a_range_or_a_shape_are_refused(data: Config, picture: Image.Image | np.ndarray):
    with pytest.raises(ValueError, match=r"8 or 16 bits|no picture"):
        picture_to_array(picture, data)


def test_odd_depths_are_kept_or_refused(data: Config):
    picture = np.arange(30, dtype=np.uint8).reshape(2, 3, 5)
    assert picture_to_array(picture, data) is picture
    data.image_size = (4, 6)
    assert picture_to_array(picture, data).shape == (4, 6, 5)
    data.color = "rgb"
    with pytest.raises(ValueError, match="5 channels cannot become rgb"):
        picture_to_array(picture, data)


# Figure of the EXIF standard: how the upright picture [[a, b, c], [d, e, f]] is stored under each orientation.
STORED = {
    1: GRAY,
    2: GRAY[:, ::-1],
    3: GRAY[::-1, ::-1],
    4: GRAY[::-1],
    5: GRAY.T,
    6: np.rot90(GRAY),
    7: GRAY[::-1, ::-1].T,
    8: np.rot90(GRAY, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(data: Config, tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation])
    picture = from_file(Image.fromarray(stored), tmp_path / "e.png", exif=exif)
    np.testing.assert_array_equal(picture_to_array(picture, data)[:, :, 0], GRAY)
    data.exif_orientation = False
    np.testing.assert_array_equal(picture_to_array(picture, data)[:, :, 0], stored)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # as the module says, but pytest sets the filters anew
def test_exif_of_a_jpeg_and_a_damaged_one(data: Config, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(np.zeros((8, 16, 3), np.uint8))
    assert picture_to_array(from_file(picture, tmp_path / "e.jpg", exif=exif), data).shape == (16, 8, 3)
    damaged = from_file(picture, tmp_path / "d.jpg", exif=exif.tobytes()[:18])
    assert picture_to_array(damaged, data).shape == (8, 16, 3)
    picture.info["exif"] = b"Exif\0\0garbage!"
    assert picture_to_array(picture, data).shape == (8, 16, 3)


def test_pad_centres_on_black(data: Config):
    data.image_size, data.resize = (32, 32), "pad"
    array = picture_to_array(np.full((28, 28, 1), 9, np.uint8), data)
    expected = np.zeros((32, 32, 1), np.uint8)
    expected[2:30, 2:30] = 9
    np.testing.assert_array_equal(array, expected)
    with pytest.raises(UsageError, match=r"33x2 pixels .* \(32, 32\)"):
        picture_to_array(np.zeros((33, 2), np.uint8), data)


def thirds(height: int, width: int) -> np.ndarray:
    """Left third 30, middle 60, right 90."""
    return np.repeat(np.repeat([[30, 60, 90]], width // 3, axis=1), height, axis=0).astype(np.uint8)


@pytest.mark.parametrize("interpolation", images.INTERPOLATIONS)
def test_crop_keeps_the_centre(data: Config, interpolation: str):
    picture, data.interpolation = thirds(8, 24), interpolation
    data.image_size, data.resize = (4, 12), "stretch"
    scaled = picture_to_array(picture, data)
    data.image_size, data.resize = (4, 4), "crop"
    np.testing.assert_array_equal(picture_to_array(picture, data), scaled[:, 4:8])
    np.testing.assert_array_equal(picture_to_array(picture.T, data), scaled[:, 4:8].swapaxes(0, 1))
    np.testing.assert_allclose(scaled[:, 5:7], 60, atol=2)


def test_stretch_takes_all(data: Config):
    data.image_size, data.resize, data.interpolation = (4, 3), "stretch", "nearest"
    np.testing.assert_array_equal(picture_to_array(thirds(8, 24), data)[:, :, 0], thirds(4, 3))


def test_fit_scales_then_pads(data: Config):
    data.image_size, data.resize, data.interpolation = (12, 12), "fit", "nearest"
    array = picture_to_array(thirds(8, 24), data)[:, :, 0]
    expected = np.zeros((12, 12), np.uint8)
    expected[4:8] = thirds(4, 12)
    np.testing.assert_array_equal(array, expected)
    assert picture_to_array(np.zeros((1, 500), np.uint8), data).shape == (12, 12, 1)


def test_downscaling_averages(data: Config):
    checkerboard = np.indices((16, 16)).sum(axis=0).astype(np.uint8) % 2 * 200
    data.image_size = (4, 4)
    np.testing.assert_allclose(picture_to_array(checkerboard, data)[1:3, 1:3], 100, atol=1)


def test_a_picture_of_the_wanted_size_is_not_touched(data: Config):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    for data.resize in images.RESIZES:
        data.image_size = (5, 7)
        assert picture_to_array(pixels, data) is pixels


def test_any_size_can_be_cropped(data: Config):
    for height, width in [(1, 1), (1, 50), (50, 1), (7, 13), (333, 17)]:
        for data.image_size in [(3, 5), (8, 8), (1, 9)]:
            for data.resize in ("crop", "fit", "stretch"):
                array = picture_to_array(np.full((height, width, 3), 8, np.uint8), data)
                assert array.shape == (*data.image_size, 3)


def test_the_centre_of_a_larger_picture(data: Config):
    """The published evaluation: short side to 256, long side cut to whole pixels, the 224 in the middle."""
    picture = np.random.default_rng(0).integers(0, 256, (333, 501, 3), np.uint8)
    data.image_size, data.crop_from = (224, 224), 256
    scaled = np.asarray(Image.fromarray(picture).resize((385, 256), Image.Resampling.BILINEAR))  # 256 * 501 / 333
    np.testing.assert_array_equal(picture_to_array(picture, data), scaled[16:240, 80:304])  # 80.5 rounds to 80
    assert picture_to_shape(Image.fromarray(picture), data, (224, 224, 3)).tolist() == scaled[16:240, 80:304].tolist()
    same = picture[:224, :224]
    assert (picture_to_array(same, data) != same).any()  # scaled up and cut, like any other


@pytest.mark.parametrize("channels", [1, 3])
def test_picture_to_shape_serves_any_picture(data: Config, channels: int):
    shape = (6, 8, channels)
    pictures = [GRAY, RED, np.zeros((40, 50, 4), np.uint8), Image.new("CMYK", (30, 20)), Image.new("1", (5, 5))]
    for data.resize in images.RESIZES:
        for picture in pictures:
            assert picture_to_shape(picture, data, shape).shape == shape


def test_picture_to_shape_pads_what_fits_and_scales_what_does_not(data: Config):
    data.resize, data.interpolation = "pad", "nearest"
    assert picture_to_shape(np.full((2, 2), 9, np.uint8), data, (4, 4, 1))[:, :, 0].sum() == 4 * 9
    assert picture_to_shape(np.full((8, 8), 9, np.uint8), data, (4, 4, 1))[:, :, 0].sum() == 16 * 9
    with pytest.raises(ValueError, match="5 channels"):
        picture_to_shape(np.zeros((2, 2, 5), np.uint8), data, (2, 2, 2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"color": "grey"}, "did you mean 'gray'"),
        ({"resize": "squash"}, "config.data.resize"),
        ({"interpolation": "cubic"}, "did you mean 'bicubic'"),
        ({"crop_from": 256}, "needs config.data.resize=crop and a config.data.image_size"),
        ({"crop_from": 256, "image_size": (8, 8), "resize": "pad"}, "crop_from = 256 needs config.data.resize=crop"),
        ({"crop_from": 200, "image_size": (224, 224)}, "of at most that"),
        ({"image_size": (32,)}, r"image_size is \(32,\)"),
        ({"image_size": (32, 0)}, "height, width"),
    ],
)
def test_check_policy(data: Config, change: dict, words: str):
    check_policy(data)
    data.update(change)
    with pytest.raises(UsageError, match=words) as caught:
        check_policy(data)
    assert "\n" not in str(caught.value)


def cut_short(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:500])


def postscript(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


def bomb(path: Path) -> None:
    """A bitmap's header that claims 40000x40000 pixels."""
    path.write_bytes(b"BM" + (54).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
                     + (40).to_bytes(4, "little") + (40000).to_bytes(4, "little") * 2
                     + (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24))  # fmt: skip


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (cut_short, "truncated"),
        (postscript, "not a picture"),
        (bomb, "pixels"),
        (lambda path: path.write_bytes(b""), "not a picture"),
        (lambda path: path.write_text("<svg/>"), "not a picture"),
        (lambda path: None, "No such file"),
    ],
)
def test_unreadable_files(tmp_path: Path, write: Callable[[Path], None], words: str):
    write(tmp_path / "x.png")
    with pytest.raises((OSError, ValueError), match=words):
        read_picture(tmp_path / "x.png")


def test_pictures_above_the_bound_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.new("L", (10, 11)).save(tmp_path / "x.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 109)
    with pytest.raises(ValueError, match="10x11 pixels are more than the 109 allowed"):
        read_picture(tmp_path / "x.png")


def test_any_damage_is_an_error_or_a_picture(data: Config, tmp_path: Path):
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8))
    for extension in ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm"):
        path = tmp_path / f"x.{extension}"
        picture.save(path)
        sound = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(25):
            damaged = sound.copy()
            damaged[random.integers(0, len(sound), 4)] = random.integers(0, 256, 4)
            path.write_bytes(damaged[: random.integers(1, len(sound) + 1)].tobytes())
            with contextlib.suppress(OSError, ValueError):
                assert picture_to_array(read_picture(path), data).ndim == 3
