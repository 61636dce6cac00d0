# SPDX-License-Identifier: Apache-2.0
"""Pictures to arrays: uint8 [H,W,C] of one colour mode and size, by the policy in config.data.

What becomes of each kind of picture, before `color` is applied:
- transparency (an alpha channel, or a transparent palette entry) is laid on white, the colour of paper;
- palettes, CMYK, YCbCr and the like become RGB; 1 bit becomes black and white gray (0 and 255);
- 16 bits a pixel are rounded to 8 (v / 257); wider integers are taken as 16-bit ones and must fit;
- floating-point pixels are refused, since nothing says their range;
- of an animation the first frame is taken.

`color` then is `keep` (gray stays one channel, all else is three), `gray` (ITU-R 601-2 luma) or `rgb`.
"""

import math
import pathlib
import warnings
from typing import IO, Any

import numpy as np
from PIL import Image

from cnnjax.errors import UsageError, unknown
from cnnjax.types import Config

MAX_PIXELS = 89_478_485
"""Largest picture that is decoded: a quarter of a GiB as RGB, the size from which Pillow suspects a bomb."""

MAX_FILE_BYTES = 2**30
"""Largest file that is opened as a picture: some decoders read it whole before they know its size."""

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's decoders that a picture may reach: pixels only, none that starts a program (as PostScript's does)."""

COLORS = ("keep", "gray", "rgb")
RESIZES = ("crop", "pad", "stretch", "fit")
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # EXIF 2.32, table 6: orientation -> what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Too large is an error here, not a remark; damaged metadata beside sound pixels is neither.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="Corrupt EXIF data", category=UserWarning)


def check_policy(data: Config) -> None:
    """Raises UsageError where config.data's picture keys have values that mean nothing."""
    for key, known in (("color", COLORS), ("resize", RESIZES), ("interpolation", tuple(INTERPOLATIONS))):
        if data[key] not in known:
            raise UsageError(unknown(f"config.data.{key}", data[key], known))
    size = data.image_size
    if len(size) not in (0, 2) or any(side < 1 for side in size):
        raise UsageError(f"config.data.image_size is {tuple(size)}; set it to (height, width) in pixels, or ()")
    if data.crop_from and (data.resize != "crop" or not size or data.crop_from < max(size)):
        raise UsageError(
            f"config.data.crop_from = {data.crop_from} needs config.data.resize=crop and a config.data.image_size of "
            f"at most that, not {data.resize} and {tuple(size)}"
        )


def read_picture(path: str | pathlib.Path | IO[bytes]) -> Image.Image:
    """Reads a picture file, all of it.

    Args:
      path: a file, or its bytes as an open one, in one of FORMATS and of at most MAX_PIXELS.

    Returns:
      The decoded picture as stored: its colour mode, size and EXIF data unchanged.

    Raises:
      OSError: there is no such file, or it cannot be opened.
      ValueError: it is no picture, is damaged, or is too large (MAX_PIXELS, MAX_FILE_BYTES).
    """
    try:
        if isinstance(path, str | pathlib.Path) and (size := pathlib.Path(path).stat().st_size) > MAX_FILE_BYTES:
            raise ValueError(f"a file of {size:,} bytes is larger than the {MAX_FILE_BYTES:,} allowed")
        with Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width}x{height} pixels are more than the {MAX_PIXELS:,} allowed")
            picture.load()
            return picture
    except Image.UnidentifiedImageError:  # whose own message repeats the whole path
        raise ValueError(f"not a picture in a format of {', '.join(FORMATS)}") from None
    except (OSError, ValueError):
        raise
    except Exception as error:  # a decoder given damaged bytes fails in any way: SyntaxError, struct.error, ...
        raise ValueError(f"{type(error).__name__}: {error}") from error


def picture_to_array(picture: Image.Image | np.ndarray, data: Config) -> np.ndarray:
    """A picture as the data set holds it.

    Args:
      picture: a PIL image, or an array [H,W] or [H,W,C] of uint8, uint16 or bool.
      data: config.data; reads color, exif_orientation, image_size, resize, crop_from, interpolation.

    Returns:
      uint8 [H,W,C]: C is 1 or 3 (an array of another depth keeps it under color "keep"); H and W are
      `data.image_size`, or the picture's own when that is ().

    Raises:
      ValueError: the pixels cannot be brought to 8 bits.
      UsageError: the policy does not suit the picture: it is larger than what it is padded to.
    """
    array = _pixels(picture, data.color, data.exif_orientation)
    size = data.image_size
    return _resized(array, tuple(size), data.resize, data) if size else array


def picture_to_shape(picture: Image.Image | np.ndarray, data: Config, image_shape: tuple[int, int, int]) -> np.ndarray:
    """A picture of any size and colour as a network trained on `image_shape` takes it.

    The policy is that of `picture_to_array`, except that size and colour are those of `image_shape` where
    `data` leaves them as stored, and that a picture too large to be padded is scaled down to fit.

    Args:
      picture: as for `picture_to_array`.
      data: config.data of the training run.
      image_shape: (H, W, C) of its images.

    Returns:
      uint8 [H,W,C].

    Raises:
      ValueError: the pixels cannot be brought to 8 bits, or to C channels.
    """
    height, width, channels = image_shape
    array = _pixels(picture, {1: "gray", 3: "rgb"}.get(channels, "keep"), data.exif_orientation)
    if array.shape[2] != channels:
        raise ValueError(f"the picture has {array.shape[2]} channels; the network takes {channels}")
    too_large = array.shape[0] > height or array.shape[1] > width
    resize = "fit" if data.resize == "pad" and too_large else data.resize
    return _resized(array, (height, width), resize, data)


def _pixels(picture: Image.Image | np.ndarray, color: str, upright: bool) -> np.ndarray:
    """uint8 [H,W,C] in the colours wanted, as large as the picture (turned upright first if so asked)."""
    if isinstance(picture, np.ndarray):
        array = _eight_bits(picture)
        array = array[:, :, None] if array.ndim == 2 else array
        if array.ndim != 3 or not array.size:
            raise ValueError(f"an array of shape {picture.shape} is no picture [H,W] or [H,W,C]")
        channels = array.shape[2]
        if (channels != 4 and color == "keep") or (color, channels) in (("gray", 1), ("rgb", 3)):
            return array
        if channels not in (1, 3, 4):
            raise ValueError(f"{channels} channels cannot become {color}; set config.data.color=keep")
        picture = Image.fromarray(array[:, :, 0] if channels == 1 else array)
    elif upright:
        picture = _turned_upright(picture)
    try:
        picture = _gray_or_rgb(picture)
        wanted = {"keep": picture.mode, "gray": "L", "rgb": "RGB"}[color]
        array = np.asarray(picture if picture.mode == wanted else picture.convert(wanted))
    except ValueError:
        raise
    except Exception as error:  # damage that decoding lets pass, such as a palette that is not there
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return array[:, :, None] if array.ndim == 2 else array


def _eight_bits(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 257 = 255
    raise ValueError(f"pixels of type {array.dtype} have no known range; use 8 or 16 bits")


def _turned_upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(ORIENTATION_TAG)
    except Exception:  # damaged EXIF data says nothing of the pixels
        return picture
    return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture


def _gray_or_rgb(picture: Image.Image) -> Image.Image:
    """The picture in mode L or RGB."""
    mode = picture.mode
    if mode == "F":
        raise ValueError("floating-point pixels have no known range; save the picture with 8 or 16 bits")
    if mode.startswith("I"):  # I;16 and its byte orders, and I, which has 32 bits but mostly holds 16
        array = np.asarray(picture)
        if array.min() < 0 or array.max() > 65535:
            raise ValueError("pixels are outside 0..65535; save the picture with 8 or 16 bits")
        return Image.fromarray(_eight_bits(array.astype(np.uint16)))
    if picture.has_transparency_data:
        paper = Image.new("RGBA", picture.size, "white")
        paper.alpha_composite(picture.convert("RGBA"))
        return paper.convert("L" if mode in ("1", "L", "LA") else "RGB")
    if mode in ("L", "RGB"):
        return picture
    return picture.convert("L" if mode == "1" else "RGB")


def _resized(array: np.ndarray, size: tuple[int, int], resize: str, data: Config) -> np.ndarray:
    """uint8 [*size,C] from [H,W,C]."""
    height, width = array.shape[:2]
    resample = INTERPOLATIONS[data.interpolation]
    if resize == "crop" and data.crop_from:
        return _centre_of(array, size, data.crop_from, resample)
    if (height, width) == size:
        return array
    if resize == "stretch":
        return scaled(array, size, resample, (0, 0, width, height))
    if resize == "crop":  # scaling the part that is kept equals scaling all, then cropping, to a part of a pixel
        scale = max(size[0] / height, size[1] / width)
        left, top = max(0, (width - size[1] / scale) / 2), max(0, (height - size[0] / scale) / 2)
        return scaled(array, size, resample, (left, top, width - left, height - top))
    if resize == "fit":
        scale = min(size[0] / height, size[1] / width)
        inner = (min(size[0], max(1, round(height * scale))), min(size[1], max(1, round(width * scale))))
        array = scaled(array, inner, resample, (0, 0, width, height))
    elif height > size[0] or width > size[1]:
        raise UsageError(
            f"{height}x{width} pixels cannot be padded to config.data.image_size {size}; set config.data.resize=fit"
        )
    top, left = (size[0] - array.shape[0]) // 2, (size[1] - array.shape[1]) // 2
    canvas = np.zeros((*size, array.shape[2]), np.uint8)
    canvas[top : top + array.shape[0], left : left + array.shape[1]] = array
    return canvas


def _centre_of(array: np.ndarray, size: tuple[int, int], short: int, resample: Image.Resampling) -> np.ndarray:
    """The centre [*size,C] of the picture scaled to a short side of `short`.

    Sides are cut to whole pixels and the crop's corner is rounded to an even number at a half, as torchvision's
    Resize and CenterCrop do: published accuracies of downloaded weights depend on it in the last digit.
    """
    height, width = array.shape[:2]
    least = min(height, width)
    inner = (int(short * height / least), int(short * width / least))
    if math.prod(inner) > MAX_PIXELS:  # a line of a million pixels
        raise ValueError(
            f"{width}x{height} pixels are too narrow: scaled to {short}, they become {inner[1]}x{inner[0]}"
        )
    if inner != (height, width):
        array = scaled(array, inner, resample, (0, 0, width, height))
    top, left = (round((whole - part) / 2) for whole, part in zip(inner, size, strict=True))
    return array[top : top + size[0], left : left + size[1]]


def scaled(array: np.ndarray, size: tuple[int, int], resample: Image.Resampling, box: Any) -> np.ndarray:
    """The part `box` (left, top, right, bottom) of [H,W,C], scaled to [*size,C] with antialiasing."""
    planes = [array] if array.shape[2] == 3 else [array[:, :, c] for c in range(array.shape[2])]
    height, width = size
    scaled = [np.asarray(Image.fromarray(plane).resize((width, height), resample, box=box)) for plane in planes]
    return scaled[0] if array.shape[2] == 3 else np.stack(scaled, axis=2)
