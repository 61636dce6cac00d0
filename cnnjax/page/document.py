# SPDX-License-Identifier: Apache-2.0
"""The whole HTML file around a page's sections: style, script, and a policy that keeps everything else out."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import NamedTuple

from cnnjax.page.html import Html, element, join

MAX_BYTES = 10_000_000  # of a page


class Section(NamedTuple):
    """A section of a page: its anchor, its title, what is in it."""

    anchor: str
    title: str
    content: tuple[Html, ...]


def document(
    title: str, header: Html, sections: Sequence[Section], *, extra_style: str = "", script: str | None = None
) -> bytes:
    """A page, UTF-8: complete in itself, it asks nothing of the network.

    Args:
      title: of the page.
      header: what stands above the sections.
      sections: in order.
      extra_style: CSS beside that of all pages.
      script: the only one that may run; None: that of charts and tables.
    """
    style, charts = (resources.files("cnnjax.page").joinpath(name).read_text() for name in ("style.css", "page.js"))
    style, script = style + extra_style, charts if script is None else script
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        Html(f"<style>\n{style}</style>"),
    )
    links = [element("a", section.title, href=f"#{section.anchor}") for section in sections]
    drawn = [
        element("section", element("h2", section.title), *section.content, id=section.anchor) for section in sections
    ]
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    body = element(
        "body",
        element("div", element("header", header), class_="wrap"),
        element("nav", element("div", *links, class_="wrap"), aria_label="Sections"),
        element("main", element("div", *drawn, class_="wrap")),
        element("div", element("footer", f"Written by cnnjax, {written}."), class_="wrap"),
        Html(f"<script>{script}</script>"),
    )
    # Names from the data may hold bytes that are not UTF-8.
    return join([Html("<!doctype html>\n"), element("html", head, body, lang="en"), Html("\n")]).encode(
        errors="backslashreplace"
    )


def tiles(facts: Sequence[tuple[str, object]]) -> Html:
    """The few numbers that matter, side by side."""
    return element(
        "dl", *[element("div", element("dt", name), element("dd", value)) for name, value in facts], class_="tiles"
    )


def facts(rows: Sequence[tuple[str, object]]) -> Html:
    """Names and what they are, one below the other."""
    return element(
        "dl", *[part for name, value in rows for part in (element("dt", name), element("dd", value))], class_="facts"
    )


def note(words: object) -> Html:
    """A remark in small, soft letters."""
    return element("p", words, class_="note")
