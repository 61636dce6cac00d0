# SPDX-License-Identifier: Apache-2.0
"""Pictures beside what an autoencoder made of them."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cnnjax.report.environment import write_atomic
from cnnjax.report.sheet import contact_sheet

_PAPER = 255
_STRIP_SIDE = 64  # dots that a picture of a strip is magnified to, by a whole number


def plot_reconstructions(
    images: np.ndarray, recons: np.ndarray, captions: Sequence[str], path: Path, *, title: str, columns: int = 6
) -> None:
    """A sheet of pairs: the picture on the left, its reconstruction on the right.

    Args:
      images: uint8 [n,H,W,C], C 1 (gray) or 3 (RGB), n of 1 and more.
      recons: float [n,H,W,C], in 0..1; what lies outside is clipped.
      captions: n texts.
      path: of the PNG.
      title: of the sheet.
      columns: pairs in a row.

    Raises:
      RunError: the file cannot be written.
    """
    made = to_pixels(recons)
    n, height, width, channels = images.shape
    gap = np.full((n, height, max(width // 16, 1), channels), _PAPER, np.uint8)
    contact_sheet(np.concatenate([images, gap, made], axis=2), captions, columns=columns, path=path, title=title)


def write_strip(images: np.ndarray, recons: np.ndarray, path: Path) -> None:
    """A small PNG: pictures in a row, their reconstructions below, pixel by pixel.

    Args:
      images: uint8 [n,H,W,C], C 1 (gray) or 3 (RGB), n of 1 and more.
      recons: float [n,H,W,C], in 0..1; what lies outside is clipped.
      path: of the PNG; its folder is made.

    Raises:
      RunError: the file cannot be written.
    """
    rows = [np.concatenate(list(row), axis=1) for row in (images, to_pixels(recons))]
    paper = np.concatenate(rows, axis=0)
    factor = max(_STRIP_SIDE // max(images.shape[1:3]), 1)
    paper = paper.repeat(factor, axis=0).repeat(factor, axis=1)
    content = io.BytesIO()
    Image.fromarray(paper[..., 0] if paper.shape[-1] == 1 else paper).save(content, format="png", optimize=True)
    write_atomic(path, content.getvalue())


def to_pixels(picture: np.ndarray) -> np.ndarray:
    """Floats in 0..1, clipped, as uint8."""
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)
