# SPDX-License-Identifier: Apache-2.0
"""Sheets of pictures: along a vector, between two pictures, the nearest ones, and the plane of the latent space."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnjax.report.grid import Band, Cell, picture_grid
from cnnjax.report.reconstructions import to_pixels


def strength_text(strength: float) -> str:
    """A strength as a caption: +0.5, -1, 0."""
    return f"{strength:+g}" if strength else "0"


def sweep_sheet(
    path: Path,
    *,
    images: np.ndarray,
    titles: Sequence[str],
    frames: np.ndarray,
    strengths: Sequence[float],
    words: Sequence[Sequence[str]] | None,
    title: str,
    note: str,
) -> None:
    """Rows of a picture, uint8 [n,H,W,C], and its changed reconstructions, float [n,S,H,W,C], a column a strength.

    `words` are the captions of the frames, n times S, if there are any. Raises RunError: it cannot be written.
    """
    heads = ["picture", *(strength_text(strength) for strength in strengths)]
    rows = []
    for i, image in enumerate(images):
        captions = words[i] if words else [""] * len(strengths)
        changed = [Cell(picture, caption) for picture, caption in zip(to_pixels(frames[i]), captions, strict=True)]
        rows.append((titles[i], [Cell(image), *changed]))
    picture_grid([Band(heads, rows)], path, title=title, note=note)


def walk_sheet(path: Path, *, ends: np.ndarray, titles: Sequence[str], frames: np.ndarray, title: str) -> None:
    """Two pictures, uint8 [2,H,W,C], and what lies between their latents, float [S,H,W,C]."""
    shares = np.linspace(0, 100, len(frames))
    heads = ["picture", *(f"{share:.0f}%" for share in shares), "picture"]
    cells = [Cell(ends[0]), *map(Cell, to_pixels(frames)), Cell(ends[1])]
    picture_grid([Band(heads, [(f"{titles[0]}\nto\n{titles[1]}", cells)])], path, title=title)


def neighbour_sheet(
    path: Path,
    *,
    images: np.ndarray,
    titles: Sequence[str],
    neighbours: Sequence[np.ndarray],
    names: Sequence[Sequence[str]],
    title: str,
) -> None:
    """Rows of a picture, uint8 [H,W,C], and its nearest ones, uint8 [k,H,W,C], with the names of their labels."""
    heads = ["picture", *(str(i + 1) for i in range(len(neighbours[0])))]
    rows = [
        (titles[i], [Cell(images[i]), *(Cell(p, n) for p, n in zip(neighbours[i], names[i], strict=True))])
        for i in range(len(images))
    ]
    picture_grid([Band(heads, rows)], path, title=title)


def plane_sheet(path: Path, *, frames: np.ndarray, steps: Sequence[float], title: str, note: str) -> None:
    """Decoded points of a plane, float [S,S,H,W,C], rows from the largest second coordinate to the smallest."""
    rows = [
        (strength_text(step), [Cell(picture) for picture in to_pixels(row)])
        for step, row in zip(steps[::-1], frames[::-1], strict=True)
    ]
    picture_grid([Band([strength_text(step) for step in steps], rows)], path, title=title, note=note, size=0.7)
