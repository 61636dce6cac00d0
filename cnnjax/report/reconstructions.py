# SPDX-License-Identifier: Apache-2.0
"""Pictures beside what an autoencoder made of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnjax.report.sheet import contact_sheet

_PAPER = 255


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
    made = np.round(255 * np.clip(recons, 0, 1)).astype(np.uint8)
    n, height, width, channels = images.shape
    gap = np.full((n, height, max(width // 16, 1), channels), _PAPER, np.uint8)
    contact_sheet(np.concatenate([images, gap, made], axis=2), captions, columns=columns, path=path, title=title)
