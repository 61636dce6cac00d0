# SPDX-License-Identifier: Apache-2.0
"""Convolve a picture with a kernel: blur, sharpen, edges, or your own numbers.

  run.py filter IMAGE --kernel=sharpen
  run.py filter IMAGE --kernel='0,-1,0;-1,5,-1;0,-1,0' --out=sharp.png
  run.py filter --list

Each channel is filtered by itself and clipped to 0..255. Two files are written and their paths printed: the picture,
and beside it NAME_sheet.png, which shows it before and after, with the kernel.
"""

import argparse
import io
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from cnnjax.layers.filters import Rows

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
_PANEL = 3.4  # inches of a picture's longer side
_GAP, _HEAD, _CAPTION = 0.15, 0.35, 0.25  # inches between panels, of the title, of a caption
_DETAIL = 96  # pixels of the detail's longer side


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="a picture file")
    parser.add_argument(
        "--kernel", metavar="NAME|ROWS", help="a name (see --list), or numbers: ',' within a row, ';' between rows"
    )
    parser.add_argument(
        "--edge", default="replicate", metavar="NAME", help="beyond the border: replicate (default), reflect or zero"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="the filtered picture (default: IMAGE_KERNEL.png in --workdir, else here)"
    )
    parser.add_argument("--list", action="store_true", help="print the kernels there are")


def run(args: argparse.Namespace) -> int:
    """Writes the picture and the sheet, and prints their paths."""
    from cnnjax.errors import UsageError
    from cnnjax.layers.filters import KERNELS, apply_filter

    if args.list:
        print("\n\n".join(f"{name}\n{_table(rows)}" for name, rows in KERNELS.items()))
        return 0
    if not args.image:
        raise UsageError("no picture given; name a file, or --list to see the kernels")
    if not args.kernel:
        raise UsageError(f"no kernel given; add --kernel=NAME, one of {', '.join(KERNELS)}, or your own numbers")
    rows = KERNELS[args.kernel] if args.kernel in KERNELS else parse_kernel(args.kernel)
    name = args.kernel if args.kernel in KERNELS else "own_kernel"
    source = Path(args.image).expanduser()
    out = Path(args.out or Path(args.workdir or ".") / f"{source.stem}_{name}.png").expanduser()
    sheet = out.with_name(f"{out.stem}_sheet.png")
    if source.resolve() in (out.resolve(), sheet.resolve()):
        raise UsageError(f"{source} would be overwritten; name another file with --out")
    encode = _encoder(out)
    before = _read(source)
    after = apply_filter(before, rows, edge=args.edge)

    from cnnjax.report.environment import write_atomic

    write_atomic(out, encode(after))
    draw_sheet(before, after, rows, source=source.name, kernel=name, path=sheet)
    print(f"{out}\n{sheet}")
    return 0


def parse_kernel(text: str) -> "Rows":
    """'0,-1,0;-1,5,-1;0,-1,0' as rows of numbers; a number may be a fraction, 1/9.

    Raises:
      UsageError: a word that is no number and no kernel's name, or rows of different lengths.
    """
    from cnnjax.errors import UsageError, unknown
    from cnnjax.layers.filters import KERNELS

    cells = [[cell.strip() for cell in row.split(",")] for row in text.strip().strip(";").split(";")]
    rows = tuple(tuple(_number(cell) for cell in row) for row in cells)
    wrong = [cell for row in cells for cell in row if math.isnan(_number(cell))]
    if wrong and len(cells) == len(cells[0]) == 1:
        raise UsageError(f"{unknown('kernel', text, KERNELS)}; or give numbers: '0,1,0;1,-4,1;0,1,0'")
    if wrong:
        raise UsageError(f"--kernel has {wrong[0]!r} where a number must be: ',' stands within a row, ';' between rows")
    lengths = [len(row) for row in rows]
    if len(set(lengths)) > 1:
        raise UsageError(f"--kernel has rows of {', '.join(map(str, lengths))} numbers; give all rows one length")
    return rows


def draw_sheet(
    before: "np.ndarray", after: "np.ndarray", rows: "Rows", *, source: str, kernel: str, path: Path
) -> None:
    """Writes a PNG: the picture before and after, each whole and in a detail, and the kernel.

    Args:
      before: uint8 [H,W,C], C 1 or 3.
      after: the same, filtered.
      rows: the kernel.
      source: what the picture is called.
      kernel: what the kernel is called.
      path: of the PNG.

    Raises:
      RunError: the file cannot be written.
    """
    from matplotlib.patches import Rectangle

    from cnnjax.report.figure import ORANGE, figure, shorten

    height, width, _ = before.shape
    inches = _PANEL / max(height, width)  # of a pixel
    panel_height, panel_width = max(height * inches, 0.5), max(width * inches, 1.2)
    crop = _detail(height, width)
    rows_of_panels = 1 if crop is None else 2
    grid = min(_PANEL / 2, 0.42 * max(len(rows), len(rows[0])))
    total_width = 3 * _GAP + 2 * panel_width + max(grid, 1.2) + _GAP
    total_height = _HEAD + max(rows_of_panels * (_CAPTION + panel_height + _GAP), _CAPTION + grid + _GAP)

    with figure(path, total_width, total_height) as drawn:
        drawn.set_layout_engine("none")

        def panel(left: float, top: float, wide: float, high: float, caption: str) -> "Axes":
            place = (left / total_width, 1 - (top + _CAPTION + high) / total_height)
            axes = drawn.add_axes((*place, wide / total_width, high / total_height), xticks=[], yticks=[])
            axes.grid(visible=False)
            axes.spines[:].set(visible=True, color="#CCCCCC")
            axes.set_title(shorten(caption, 8, wide), pad=4, fontsize=8)
            return axes

        title = shorten(
            f"{source} ({width} x {height} pixels), filtered by {kernel}", 9, total_width - 2 * _GAP, "bold"
        )
        drawn.text(_GAP / total_width, 1 - 0.55 * _HEAD / total_height, title, va="center", weight="bold", fontsize=9)
        for column, (caption, image) in enumerate((("before", before), ("after", after))):
            pixels = image[:, :, 0] if image.shape[2] == 1 else image
            left = _GAP + column * (panel_width + _GAP)
            axes = panel(left, _HEAD, panel_width, panel_height, caption)
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
            if crop is None:
                continue
            down, across = crop
            size = (across.stop - across.start, down.stop - down.start)
            axes.add_patch(Rectangle((across.start - 0.5, down.start - 0.5), *size, fill=False, ec=ORANGE, lw=1))
            below = _HEAD + _CAPTION + panel_height + _GAP
            axes = panel(left, below, panel_width, panel_height, f"{caption}: the framed {size[0]} x {size[1]} pixels")
            axes.imshow(pixels[down, across], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.spines[:].set(color=ORANGE, linewidth=1)
        axes = panel(3 * _GAP + 2 * panel_width, _HEAD, max(grid, 1.2), grid, "kernel")
        _draw_kernel(axes, rows, grid)


def _draw_kernel(axes: "Axes", rows: "Rows", side: float) -> None:
    """The weights as colours, blue below zero and red above, with their numbers where there is room."""
    largest = max(abs(weight) for row in rows for weight in row) or 1.0
    axes.imshow(rows, cmap="RdBu_r", vmin=-1.6 * largest, vmax=1.6 * largest)
    axes.spines[:].set(visible=False)
    cell = side / max(len(rows), len(rows[0]))  # inches
    texts = [[_text(weight) for weight in row] for row in rows]
    points = min(9.0, 72 * cell * 1.5 / max(len(text) for row in texts for text in row))
    if points < 4:
        return
    for y, row in enumerate(texts):
        for x, text in enumerate(row):
            axes.text(x, y, text, ha="center", va="center", fontsize=points)


def _detail(height: int, width: int) -> tuple[slice, slice] | None:
    """Rows and columns of a part in the middle whose pixels can be seen; None: they can in the whole picture."""
    factor = max(height, width) / _DETAIL
    if factor < 2:
        return None
    high, wide = max(round(height / factor), 1), max(round(width / factor), 1)
    top, left = (height - high) // 2, (width - wide) // 2
    return slice(top, top + high), slice(left, left + wide)


def _number(text: str) -> float:
    """A number or a fraction such as 1/9; nan for what is neither, or not finite."""
    numerator, slash, denominator = text.partition("/")
    try:
        value = float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def _text(weight: float) -> str:
    """A weight as people write it: 4, 1/9, 0.303."""
    fraction = Fraction(weight).limit_denominator(256)
    return str(fraction) if abs(float(fraction) - weight) < 1e-9 else f"{weight:.3g}"


def _table(rows: "Rows") -> str:
    texts = [[_text(weight) for weight in row] for row in rows]
    wide = max(len(text) for row in texts for text in row)
    return "\n".join("  " + "  ".join(text.rjust(wide) for text in row) for row in texts)


def _read(path: Path) -> "np.ndarray":
    """uint8 [H,W,C], C 1 or 3, turned upright."""
    from cnnjax.data.images import picture_to_array, read_picture
    from cnnjax.errors import RunError

    policy = SimpleNamespace(color="keep", exif_orientation=True, image_size=())
    try:
        return picture_to_array(read_picture(path), policy)
    except FileNotFoundError:
        raise RunError(f"no picture at {path}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {' '.join(str(error).split())}") from None


def _encoder(path: Path) -> "Callable[[np.ndarray], bytes]":
    """What turns an image into the bytes of a file of this name."""
    from PIL import Image

    from cnnjax.errors import UsageError

    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"--out is {path}; its name must end in one of {', '.join(_FORMATS)}")

    def encode(image: "np.ndarray") -> bytes:
        content = io.BytesIO()
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        picture.save(content, format=kind, quality=95)  # of 100; formats without loss leave it out
        return content.getvalue()

    return encode
