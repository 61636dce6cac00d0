# SPDX-License-Identifier: Apache-2.0
"""Numbers and tables as plain text, for the commands' output."""

import math
import unicodedata
from collections.abc import Iterable, Sequence

from cnnjax.errors import printable


def text_width(text: str) -> int:
    """Columns that `text` takes in a terminal: wide East Asian characters take two, combining marks none."""
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def format_table(header: Sequence[str], rows: Iterable[Sequence[object] | None], align: str) -> str:
    """A table as text, columns two spaces apart, a rule below the header.

    Args:
      header: the columns' names.
      rows: the cells, shown as `str(cell)`; None draws a rule, as above a line of totals.
      align: one letter a column, "l" left or "r" right (numbers).

    Returns:
      The lines, joined, without a newline at the end and without trailing spaces.

    Raises:
      ValueError: a row or `align` has another length than `header`, or `align` another letter.
    """
    if len(align) != len(header) or set(align) - {"l", "r"}:
        raise ValueError(f"align is {align!r}; it takes one of 'l', 'r' for each of {len(header)} columns")
    cells = [row if row is None else [printable(str(cell)) for cell in row] for row in (header, *rows)]
    for row in cells:
        if row is not None and len(row) != len(header):
            raise ValueError(f"the row {row!r} has {len(row)} cells; the header has {len(header)}")
    widths = [max(text_width(row[i]) for row in cells if row is not None) for i in range(len(header))]
    rule = "  ".join("-" * width for width in widths)

    def line(row: Sequence[str] | None) -> str:
        if row is None:
            return rule
        parts = []
        for cell, width, side in zip(row, widths, align, strict=True):
            space = " " * (width - text_width(cell))
            parts.append(space + cell if side == "r" else cell + space)
        return "  ".join(parts).rstrip()

    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def format_count(count: int) -> str:
    """A whole number with its thousands marked: 1,234,567."""
    return f"{count:,d}"


def format_duration(seconds: float) -> str:
    """A duration in the two largest units that matter: 12.3 s, 3 min 05 s, 1 h 02 min, 2 d 03 h.

    Below a second: 45 ms. Not finite (a rest that cannot be told): "unknown".
    """
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 0:
        return "-" + format_duration(-seconds)
    # Each bound is the first value that would round up to the next unit ("60.0 s").
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours:02d} h"


def format_bytes(count: float) -> str:
    """A size in binary units to three figures or one decimal: 512 B, 1.5 KiB, 123.4 MiB, 8.0 GiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < (1023.5 if unit == "B" else 1023.95):
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
