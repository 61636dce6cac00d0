# SPDX-License-Identifier: Apache-2.0
"""The page with sliders: one HTML file that needs no network, all its pictures drawn beforehand."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax.page.document import Section, document, note
from cnnjax.page.html import Html, element, join, table
from cnnjax.page.pictures import data_uri, reduced
from cnnjax.report.environment import write_atomic
from cnnjax.report.reconstructions import to_pixels

_SIDE = 128  # pixels, of the longer side of a picture in the page


class Track(NamedTuple):
    """What a slider moves along.

    Attributes:
      title: of the picture it starts from.
      picture: that picture, uint8 [H,W,C].
      frames: float [S,H,W,C] in 0..1.
      words: S texts, what is said of each.
    """

    title: str
    picture: np.ndarray
    frames: np.ndarray
    words: Sequence[str]


def write_page(
    path: Path,
    *,
    title: str,
    lead: str,
    sweeps: Sequence[Track],
    start: int,
    ends: tuple[str, str],
    walk: Track | None,
    effect: tuple[Sequence[str], Sequence[Sequence[str]]],
    remark: str,
) -> None:
    """Writes the page.

    Args:
      path: of the HTML file.
      title: of the page.
      lead: a sentence below it.
      sweeps: a track for each picture to choose from, all with the same strengths.
      start: the frame shown first, strength 0.
      ends: what stands below the slider's left end and its right one.
      walk: from one picture to another, or None.
      effect: header and rows of the table of what each strength does.
      remark: how to read it.

    Raises:
      RunError: the file cannot be written.
    """
    parts = {"sweep": list(sweeps)} | ({"walk": [walk]} if walk else {})
    frames = json.dumps({name: [_plain(track) for track in tracks] for name, tracks in parts.items()})
    safe = frames.replace("<", "\\u003c")  # nothing in the data can end the element, which no browser runs
    held = Html(f'<script type="application/json" id="frames">{safe}</script>')
    sections = [Section("slide", "Slide", (_sweep_stage(sweeps, start, ends), held))]
    if walk:
        sections.append(Section("between", "Between two pictures", (_walk_stage(walk),)))
    listed = table(effect[0], effect[1], "r" * len(effect[0]), caption="What each strength does")
    sections.append(Section("effect", "What it does", (listed, note(remark))))
    header = join([element("h1", title), element("p", lead, class_="note")])
    style, script = (resources.files("cnnjax.latent").joinpath(name).read_text() for name in ("page.css", "page.js"))
    write_atomic(path, document(title, header, sections, extra_style=style, script=script))


def _plain(track: Track) -> dict[str, Any]:
    pictures = [data_uri(reduced(picture, _SIDE)) for picture in to_pixels(track.frames)]
    frames = [{"picture": uri, "words": words} for uri, words in zip(pictures, track.words, strict=True)]
    return {"title": track.title, "picture": data_uri(reduced(track.picture, _SIDE)), "frames": frames}


def _sweep_stage(sweeps: Sequence[Track], start: int, ends: tuple[str, str]) -> Html:
    choices = [
        element(
            "label",
            element("input", type="radio", name="face", value=i, checked=i == 0),
            element("img", src=data_uri(reduced(track.picture, _SIDE)), alt=track.title, class_="pixels"),
        )
        for i, track in enumerate(sweeps)
    ]
    first = sweeps[0]
    return element(
        "div",
        element("fieldset", element("legend", "Choose a picture"), *choices, class_="faces"),
        element("div", _figure("still", first.picture, first.title), _moving(first, start), class_="stage"),
        _slider("strength", "Strength of the vector", len(first.words), start, ends, first.words[start]),
        _without_script(),
        id="sweep",
    )


def _walk_stage(walk: Track) -> Html:
    last = len(walk.words) - 1
    return element(
        "div",
        element("div", _moving(walk, 0), class_="stage"),
        _slider("share", "Way from one to the other", len(walk.words), 0, (walk.words[0], walk.words[last]), ""),
        id="walk",
    )


def _moving(track: Track, start: int) -> Html:
    return _figure("moving", to_pixels(track.frames[start]), "drawn from its latent")


def _figure(name: str, picture: np.ndarray, caption: str) -> Html:
    shown = element("img", src=data_uri(reduced(picture, _SIDE)), alt=caption, class_=f"{name} pixels")
    return element("figure", shown, element("figcaption", caption))


def _slider(name: str, label: str, count: int, start: int, ends: tuple[str, str], said: str) -> Html:
    return element(
        "div",
        element("div", element("label", label, for_=name), element("output", said, for_=name), class_="named"),
        element("input", type="range", id=name, min=0, max=count - 1, step=1, value=start),
        element("div", element("span", ends[0]), element("span", ends[1]), class_="ends"),
        class_="slide",
    )


def _without_script() -> Html:
    return element("noscript", note("The slider needs JavaScript; the sheets beside this file show the same pictures."))
