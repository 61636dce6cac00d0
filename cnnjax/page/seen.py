# SPDX-License-Identifier: Apache-2.0
"""The views that `run.py see` has drawn of a run, and the pictures of its training, inside the page."""

from pathlib import Path
from typing import Any

from cnnjax.errors import RunError
from cnnjax.jsonfile import read_object
from cnnjax.page.document import Section, note
from cnnjax.page.html import Html, element
from cnnjax.page.pictures import embed_file

FOLDER = "see"
_MAX_BYTES = 6_000_000  # of all views, as data URIs


def seen_section(workdir: Path) -> Section | None:
    """The views in WORKDIR/see, with their captions; None without any."""
    parts: list[Html] = []
    left = _MAX_BYTES
    for path in sorted((workdir / FOLDER).glob("*.json")):
        figures: list[Html] = []
        for picture, caption in _pictures(path):
            try:
                uri = embed_file(picture)
            except OSError:
                continue  # named there, but gone since
            if len(uri) > left:
                figures.append(note(f"{FOLDER}/{picture.name} would make this page too heavy: {caption}"))
                continue
            left -= len(uri)
            figures.append(picture_of(uri, caption))
        if figures:
            drawn = element("div", *figures, class_="columns") if len(figures) > 1 else figures[0]
            parts += [element("h3", path.stem.replace("_", " ").capitalize()), drawn]
    return Section("seen", "What the network sees", tuple(parts)) if parts else None


def _pictures(path: Path) -> list[tuple[Path, str]]:
    try:
        listed: Any = read_object(path)["pictures"]
        # The folder may have been moved since: of the name only the last part counts.
        return [(path.parent / Path(entry["file"]).name, str(entry["caption"])) for entry in listed]
    except (RunError, KeyError, TypeError):
        return []  # not a view's file


def reconstructions_section(workdir: Path, name: str) -> Section | None:
    """The sheet of pictures and reconstructions that training drew."""
    path = workdir / name
    if not path.is_file():
        return None
    caption = "Each picture on the left, what the network made of it on the right."
    return Section("reconstructions", "Reconstructions", (picture_of(embed_file(path), caption),))


def picture_of(uri: str, caption: str) -> Html:
    """A picture with its caption."""
    return element("figure", element("img", src=uri, alt=caption), element("figcaption", caption), class_="picture")
