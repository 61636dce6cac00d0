# SPDX-License-Identifier: Apache-2.0
"""All pictures of an attribute in a latent space: sheets, the page with sliders, and a map."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.experiment import Network
from cnnjax.latent import sheets
from cnnjax.latent.codec import Codec
from cnnjax.latent.contrast import Contrast
from cnnjax.latent.control import Judge
from cnnjax.latent.explore import Latents, Shown
from cnnjax.latent.page import Track, write_page
from cnnjax.latent.tables import effect_table, remark
from cnnjax.latent.vectors import along, between, nearest
from cnnjax.see.embed import pca
from cnnjax.views import embed
from cnnjax.views.subject import Choice, make_subject

SLIDER_FRAMES, WALK_FRAMES, SHEET_WALK = 25, 21, 7
NEIGHBOURS = 6
PLANE = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # standard deviations
FEWEST_MAPPED = 8  # held-out pictures that make a map


def draw(
    folder: Path,
    network: Network,
    codec: Codec,
    contrast: Contrast,
    latents: Latents,
    shown: Shown,
    judge: Judge | None,
    numbers: dict[str, Any],
    *,
    strengths: Sequence[float],
    seed: int,
) -> list[tuple[Path, str]]:
    """Writes the sheets and the page; returns each file with what it shows.

    Raises:
      RunError: a file cannot be written.
    """
    step = f"{contrast.name} - {contrast.other}"
    name = f"{codec.name}: {contrast.dataset.name}"

    def frames_at(steps: np.ndarray) -> np.ndarray:
        moved = along(shown.latent, latents.vector, steps)
        return codec.decode(moved.reshape(-1, codec.size)).reshape(*moved.shape[:2], *shown.image.shape[1:])

    def said(frames: np.ndarray) -> list[list[str]]:
        if judge is None:
            return [[""] * frames.shape[1] for _ in frames]
        return [[f"{100 * p:.0f}% {contrast.name}" for p in judge(row)] for row in frames]

    swept = frames_at(np.asarray(strengths))
    sheets.sweep_sheet(
        folder / "sweep.png",
        images=shown.image,
        titles=shown.title,
        frames=swept,
        strengths=strengths,
        words=said(swept) if judge else None,
        title=f"{name}, picture + s ({step})",
        note=f"above each column s; the vector: {numbers['train']['has']:,} and {numbers['train']['lacks']:,} "
        "training pictures",
    )
    files = [(folder / "sweep.png", f"pictures with strengths of ({step}) added to their latents")]
    walk = _walk(folder, codec, shown, files)
    _neighbours(folder, contrast, latents, shown, files)
    _plane(folder, codec, latents, files)
    if len(contrast.held_out.label) >= FEWEST_MAPPED:
        subject = make_subject(network, codec.name, contrast.dataset, contrast.split)
        choice = Choice(
            shown.image, shown.title, np.full(len(shown.image), -1, np.int32), "latent", None, None, 1, seed
        )
        files += embed.draw(subject, choice, folder).pictures

    steps = np.linspace(min(0.0, *strengths), max(0.0, *strengths), SLIDER_FRAMES)
    steps[start := int(np.argmin(np.abs(steps)))] = 0  # the slider stops at the unchanged picture
    frames = frames_at(steps)
    words = [
        [f"strength {s:.2f}{', ' if w else ''}{w}" for s, w in zip(steps, row, strict=True)] for row in said(frames)
    ]
    tracks = [
        Track(title.replace("\n", ", "), image, frames[i], words[i])
        for i, (title, image) in enumerate(zip(shown.title, shown.image, strict=True))
    ]
    write_page(
        folder / "slider.html",
        title=f"{contrast.name} in the latent space of {codec.name}",
        lead=f"A picture's {codec.size} numbers plus a strength times the mean of {contrast.name} "
        f"minus the mean of {contrast.other}, drawn again.",
        sweeps=tracks,
        start=start,
        ends=(f"less {contrast.name} ({steps[0]:+g})", f"more {contrast.name} ({steps[-1]:+g})"),
        walk=walk,
        effect=effect_table(numbers),
        remark=remark(numbers),
    )
    files.append((folder / "slider.html", "the same with a slider, in a browser"))
    return files


def _walk(folder: Path, codec: Codec, shown: Shown, files: list[tuple[Path, str]]) -> Track | None:
    if len(shown.image) < 2:
        return None
    first, last = shown.latent[0], shown.latent[1]
    titles = [title.replace("\n", ", ") for title in shown.title[:2]]
    sheets.walk_sheet(
        folder / "between.png",
        ends=shown.image[:2],
        titles=shown.title[:2],
        frames=codec.decode(between(first, last, SHEET_WALK)),
        title=f"{codec.name}: in equal steps from one latent to another",
    )
    files.append((folder / "between.png", "what lies between the latents of two pictures"))
    shares = np.linspace(0, 100, WALK_FRAMES)
    words = [titles[0], *(f"{share:.0f}%" for share in shares[1:-1]), titles[1]]
    return Track(titles[0], shown.image[0], codec.decode(between(first, last, WALK_FRAMES)), words)


def _neighbours(
    folder: Path, contrast: Contrast, latents: Latents, shown: Shown, files: list[tuple[Path, str]]
) -> None:
    split = contrast.dataset.splits["train"]
    found = nearest(shown.latent, latents.train, min(NEIGHBOURS, len(split.label)))
    sheets.neighbour_sheet(
        folder / "neighbours.png",
        images=shown.image,
        titles=shown.title,
        neighbours=[split.image[rows] for rows in found],
        names=[[contrast.dataset.label_names[split.label[i]] for i in rows] for rows in found],
        title=f"{contrast.dataset.name}: the training pictures whose latents are nearest",
    )
    files.append((folder / "neighbours.png", "the nearest training pictures, by latents"))


def _plane(folder: Path, codec: Codec, latents: Latents, files: list[tuple[Path, str]]) -> None:
    if codec.size < 2:
        return
    plane = pca(latents.train)
    spread = plane.points.std(axis=0)
    x, y = np.meshgrid(np.asarray(PLANE) * spread[0], np.asarray(PLANE) * spread[1])
    points = latents.train.mean(axis=0) + x[..., None] * plane.directions[0] + y[..., None] * plane.directions[1]
    frames = codec.decode(points.reshape(-1, codec.size))
    sheets.plane_sheet(
        folder / "plane.png",
        frames=frames.reshape(len(PLANE), len(PLANE), *frames.shape[1:]),
        steps=PLANE,
        title=f"{codec.name}: the plane through the mean latent along its first two principal components",
        note=f"in standard deviations; {plane.explained.sum():.0%} of the latents' variance lies in it",
    )
    files.append((folder / "plane.png", "pictures of the plane of the latents' two largest principal components"))
