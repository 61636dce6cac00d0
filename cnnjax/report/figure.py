# SPDX-License-Identifier: Apache-2.0
"""The one style of all figures: size, fonts, colours, and text that is drawn as it stands.

Matplotlib's object interface on the Agg canvas: no window, no global figure, and the user's matplotlibrc is left
out, so a figure looks the same everywhere. Text is never read as TeX: a class may be called "$5_bill".
"""

import bisect
import contextlib
import functools
import io
import math
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import matplotlib.style
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from cnnjax.report.environment import write_atomic

DPI = 200  # dots per inch
# Okabe and Ito's palette, told apart by colour-blind readers (https://jfly.uni-koeln.de/color/).
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
# Pale and full of one hue in turn, for runs that come in pairs (ColorBrewer's Paired, https://colorbrewer2.org).
PAIRED = ("#A6CEE3", "#1F78B4", "#FDBF6F", "#E36C00", "#B2DF8A", "#33A02C", "#CAB2D6", "#6A3D9A", "#FB9A99", "#C8191C")
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "PingFang SC", "Microsoft YaHei")
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "figure.titlesize": 9,
    "legend.columnspacing": 1.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "svg.hashsalt": "cnnjax",
    "text.parse_math": False,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}


@contextlib.contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure in the project's style, in inches; written to `path` when the block is left, as SVG or PNG by suffix.

    Raises:
      RunError: the file cannot be written.
    """
    with matplotlib.style.context(["default", {**STYLE, "font.family": list(_fonts()[0])}]):
        drawn = Figure(figsize=(width, height), layout="constrained")
        yield drawn
        content = io.BytesIO()
        if path.suffix == ".svg":
            drawn.savefig(content, format="svg", metadata={"Date": None})  # the same figure is the same file
        else:
            drawn.savefig(content, format="png", dpi=DPI)
    write_atomic(path, content.getvalue())


@functools.cache
def _fonts() -> tuple[tuple[str, ...], frozenset[int]]:
    """Those of FONTS that are installed, and the characters they hold between them."""
    installed = {font.name for font in fontManager.ttflist}
    families = tuple(name for name in FONTS if name in installed)

    def held(weight: str) -> set[int]:
        files = [findfont(FontProperties(family=name, weight=weight)) for name in families]
        return {character for file in files for character in get_font(file).get_charmap()}

    return families, frozenset(held("normal") & held("bold"))


def literal(text: str) -> str:
    r"""`text` with what cannot be drawn, control characters and those that no font here has, as `\n` or `\u732b`."""
    characters = _fonts()[1]
    return "".join(
        c if c.isprintable() and ord(c) in characters else c.encode("unicode_escape").decode()
        for c in unicodedata.normalize("NFC", text)
    )


def shorten(text: str, points: float, inches: float, weight: str = "normal") -> str:
    """`text`, drawable, at most `inches` wide in letters of `points`: characters in its middle give way to "…"."""
    text = literal(text)
    letters, renderer = FontProperties(size=points, weight=weight), RendererAgg(1, 1, 72)

    def cut(kept: int) -> str:
        if kept == len(text):
            return text
        return text[: math.ceil(kept / 2)].rstrip() + "…" + text[len(text) - kept // 2 :].lstrip()

    def fits(kept: int) -> bool:
        return renderer.get_text_width_height_descent(cut(kept), letters, False)[0] <= 72 * inches

    if fits(len(text)):
        return text
    return cut(max(bisect.bisect_left(range(1, len(text)), True, key=lambda kept: not fits(kept)), 1))


def percent(fraction: float, _: object = None) -> str:
    """A tick label: 0.25 as 25%."""
    return f"{100 * fraction:.6g}%"
