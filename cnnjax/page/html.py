# SPDX-License-Identifier: Apache-2.0
"""Markup from nested calls; text that is not markup already is escaped."""

import html
from collections.abc import Iterable, Sequence

from cnnjax.errors import printable

_VOID = ("br", "col", "img", "input", "meta")


class Html(str):
    """Markup: what `element` and `join` return, and nothing that came from data."""

    __slots__ = ()


def text(value: object) -> Html:
    """Anything as escaped text, None as nothing; markup stays as it is."""
    if isinstance(value, Html):
        return value
    return Html("" if value is None else html.escape("\n".join(map(printable, str(value).split("\n")))))


def join(parts: Iterable[object]) -> Html:
    """One piece of markup out of several, in order."""
    return Html("".join(map(text, parts)))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """`<tag ...>children</tag>`.

    Args:
      tag: its name.
      children: markup, or anything else, which is shown as text.
      attributes: `class_` stands for class, `data_x` for data-x; None and False leave one out, True gives no value.
    """
    words = [tag]
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words.append(f'{name}="{text(str(value))}"')
    opening = f"<{' '.join(words)}>"
    return Html(opening if tag in _VOID else f"{opening}{join(children)}</{tag}>")


def table(
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    align: str,
    *,
    caption: str,
    sortable: bool = False,
    row_classes: Sequence[str | None] | None = None,
    tall: bool = False,
) -> Html:
    """A table in a box that scrolls by itself; the first cell of a row is its header.

    Args:
      header: the columns' names.
      rows: the cells.
      align: one letter a column, "l" left or "r" right (numbers).
      caption: what the table holds, for readers who do not see it.
      sortable: a click on a column's name sorts by it.
      row_classes: a CSS class of each row.
      tall: a long table gets a box of limited height.
    """
    sides = ["number" if side == "r" else None for side in align]
    heads = [
        element("th", element("button", name, type="button") if sortable else name, scope="col", class_=side)
        for name, side in zip(header, sides, strict=True)
    ]
    lines = []
    for i, row in enumerate(rows):
        first, *rest = zip(row, sides, strict=True)
        cells = [element("th", first[0], scope="row", class_=first[1])]
        cells += [element("td", cell, class_=side) for cell, side in rest]
        lines.append(element("tr", *cells, class_=row_classes[i] if row_classes else None))
    drawn = element(
        "table",
        element("caption", caption, class_="unseen"),
        element("thead", element("tr", *heads)),
        element("tbody", *lines),
        class_="sortable" if sortable else None,
    )
    return scroller(drawn, caption, tall=tall)


def scroller(content: Html, label: str, *, tall: bool = False) -> Html:
    """A box that scrolls sideways by itself, by keyboard too."""
    return element(
        "div", content, class_="scroll tall" if tall else "scroll", tabindex="0", role="region", aria_label=label
    )
