# SPDX-License-Identifier: Apache-2.0
"""A contact sheet: many small pictures in rows, each with a caption."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cnnjax.report.figure import DPI, figure, shorten

_CELL = 200  # dots that a picture is magnified to at most, and that a caption always has
_LARGEST = 320  # dots that a larger picture is reduced to
_GAP, _LINE, _HEAD = 16, 24, 52  # dots between cells, of a line of a caption, of the title
_LETTERS, _TITLE = 7.0, 9.0  # points
_PAPER, _FRAME, _INK = 255, 204, "#333333"


def contact_sheet(
    images: np.ndarray, captions: Sequence[str], *, columns: int, path: Path, title: str | None = None
) -> None:
    """Writes a PNG of pictures in rows from left to right, with their captions below.

    Small pictures are magnified by a whole number, pixel by pixel; those above 320 dots are reduced.

    Args:
      images: uint8 [N,H,W,C], C 1 (gray) or 3 (RGB), N of 1 and more.
      captions: N texts; a line that is too long loses its middle.
      columns: pictures in a row.
      path: of the PNG.
      title: a line above them all.

    Raises:
      RunError: the file cannot be written.
    """
    if not 0 < len(images) == len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} captions: give one caption an image, and an image")
    pictures = [_scaled(image) for image in images]
    texts = [caption.split("\n") for caption in captions]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    picture_height, picture_width, _ = pictures[0].shape
    cell_width = max(picture_width, _CELL)
    lines = max(len(text) for text in texts)
    cell_height = picture_height + lines * _LINE + _GAP // 2
    head = _HEAD if title else _GAP
    width = _GAP + columns * (cell_width + _GAP)
    height = head + rows * (cell_height + _GAP)

    paper = np.full((height, width, 3), _PAPER, np.uint8)
    with figure(path, width / DPI, height / DPI) as drawn:
        drawn.set_layout_engine("none")
        panel = drawn.add_axes((0, 0, 1, 1))
        panel.set_axis_off()
        if title:
            heading = shorten(title, _TITLE, (width - 2 * _GAP) / DPI, "bold")
            panel.text(_GAP, head / 2, heading, va="center", fontsize=_TITLE, fontweight="bold")
        for i, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
            row, column = divmod(i, columns)
            top, left = head + row * (cell_height + _GAP), _GAP + column * (cell_width + _GAP)
            inset = left + (cell_width - picture_width) // 2
            # A frame of one dot: the paper is white, and so are many pictures at their border.
            paper[top - 1 : top + picture_height + 1, inset - 1 : inset + picture_width + 1] = _FRAME
            paper[top : top + picture_height, inset : inset + picture_width] = picture
            for number, line in enumerate(text):
                below = top + picture_height + _GAP // 2 + (number + 0.5) * _LINE
                words = shorten(line, _LETTERS, cell_width / DPI)
                panel.text(left + cell_width / 2, below, words, va="center", ha="center", fontsize=_LETTERS, color=_INK)
        # One dot of the figure for each of the paper, so magnified pixels stay square and sharp.
        panel.imshow(paper, aspect="auto", extent=(0, width, height, 0), interpolation="nearest")
        panel.set(xlim=(0, width), ylim=(height, 0))


def _scaled(image: np.ndarray) -> np.ndarray:
    """As RGB [h,w,3], magnified by a whole number or reduced."""
    height, width, _ = image.shape
    image = np.broadcast_to(image, (height, width, 3))
    longest = max(height, width)
    if longest > _LARGEST:
        size = (max(round(width * _LARGEST / longest), 1), max(round(height * _LARGEST / longest), 1))
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    factor = max(_CELL // longest, 1)
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
