# SPDX-License-Identifier: Apache-2.0
"""The interactive page of the bubbles: one HTML file that needs no network, and the document of its numbers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.architectures.picture import COLORS, KINDS
from cnnjax.architectures.points import Panel, Point
from cnnjax.report.environment import to_plain, write_atomic

PARTS = Path(__file__).parent


class Timing(NamedTuple):
    """How the times were measured."""

    batch_size: int
    machine: str


def make_document(panels: Sequence[Panel], timing: Timing | None, left_out: Sequence[str]) -> dict[str, Any]:
    """All numbers of the picture with the source of each accuracy, ready for JSON."""
    return to_plain(
        {
            "counted": "parameters and multiply-adds of one image, evaluated once, whatever the crops of the accuracy",
            "timing": timing and {**timing._asdict(), "what": "forward pass, median of repeated calls, for an image"},
            "panels": [{**panel._asdict(), "points": [_numbers(point) for point in panel.points]} for panel in panels],
            "left_out": list(left_out),
        }
    )


def _numbers(point: Point) -> dict[str, Any]:
    return {name: value for name, value in point._asdict().items() if name != "model"}


def write_page(document: dict[str, Any], path: Path) -> None:
    """Writes the page of a document that `make_document` made.

    Raises:
      RunError: the file cannot be written.
    """
    write_atomic(path, make_page(document).encode(errors="backslashreplace"))


def make_page(document: dict[str, Any]) -> str:
    """The HTML text. Names of runs come from outside: they stand in the data only, never in the markup."""
    data = json.dumps({**document, "colors": COLORS, "kinds": KINDS}, ensure_ascii=False)
    parts = {
        "STYLE": (PARTS / "page.css").read_text(encoding="utf-8"),
        "SCRIPT": (PARTS / "page.js").read_text(encoding="utf-8"),
        "DATA": data.replace("<", "\\u003c"),  # no "</script>" and no "<!--" can end the element
    }
    page = (PARTS / "page.html").read_text(encoding="utf-8")
    pieces = page.split("@@")  # every second piece is the name of a part
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))
