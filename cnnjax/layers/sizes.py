# SPDX-License-Identifier: Apache-2.0
"""Window arithmetic shared by convolution and pooling: pairs, padding and the size of the result."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from cnnjax.errors import UsageError

Size = int | Sequence[int]
"""A number for both axes, or (height, width)."""
Padding = str | int | Sequence[int] | Sequence[Sequence[int]]
"""'same', 'valid', a number for every side, (height, width), or ((top, bottom), (left, right))."""
Sides = tuple[tuple[int, int], tuple[int, int]]
"""Padding as ((top, bottom), (left, right))."""


class Window(NamedTuple):
    """How a window moves over a map; every pair is (height, width). Hashable, so it may be a static argument.

    Attributes:
      kernel_size: taps of the window.
      stride: pixels from one window to the next.
      dilation: pixels from one tap to the next.
      sides: the padding asked for.
      reach: `sides`, grown at the bottom and right where ceil_mode lets the last window stick out.
      output: windows along each axis.
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    sides: Sides
    reach: Sides
    output: tuple[int, int]


def pair(value: Any, what: str, *, least: int = 1) -> tuple[int, int]:
    """`value` for height and width.

    Raises:
      UsageError: neither a whole number nor two of them, or one below `least`.
    """
    numbers = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(numbers) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < least for n in numbers):
        raise UsageError(f"{what} is {value!r}; give one number or (height, width), each {least} or more")
    return numbers[0], numbers[1]


def resolve_padding(padding: Padding, kernel_size: Size, *, stride: Size = 1, dilation: Size = 1) -> Sides:
    """Any form of `padding` as pixels on each side.

    'same' keeps height and width at stride 1, the odd pixel at the bottom and right, as PyTorch does; with a larger
    stride it would mean another thing in each framework, and is refused.

    Raises:
      UsageError: an unknown form, a negative number, or 'same' with a stride.
    """
    if isinstance(padding, str):
        if padding.lower() == "valid":
            return (0, 0), (0, 0)
        if padding.lower() != "same":
            raise UsageError(
                f"padding is {padding!r}; give 'same', 'valid', a number, (height, width) or pairs per side"
            )
        if pair(stride, "stride") != (1, 1):
            raise UsageError(f"padding 'same' needs stride 1, not {stride}; give the padding in pixels")
        extents = [
            d * (k - 1) for k, d in zip(pair(kernel_size, "kernel_size"), pair(dilation, "dilation"), strict=True)
        ]
        top, left = (extent // 2 for extent in extents)
        return (top, extents[0] - top), (left, extents[1] - left)
    if isinstance(padding, Sequence) and len(padding) == 2 and all(isinstance(side, Sequence) for side in padding):
        height, width = padding
        return pair(height, "padding", least=0), pair(width, "padding", least=0)
    height, width = pair(padding, "padding", least=0)
    return (height, height), (width, width)


def window_output(
    size: Sequence[int],
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    sides: Sides,
    dilation: tuple[int, int],
    *,
    ceil_mode: bool = False,
) -> tuple[int, int]:
    """Height and width of what a window leaves of a map: floor((size + padding - extent) / stride) + 1.

    With `ceil_mode` the division is rounded up, so a last window may stick out, but only one that starts inside
    the map or its padding at the top and left: PyTorch's rule.

    Raises:
      UsageError: the window does not fit into the padded map, or the map has no pixels.
    """
    if len(size) != 2:
        raise UsageError("a window moves over maps [B,H,W,C]; this array has another number of axes")
    padded = [n + low + high for n, (low, high) in zip(size, sides, strict=True)]
    extents = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    overhang = [s - 1 if ceil_mode else 0 for s in stride]
    least = [max(e - o, 1) for e, o in zip(extents, overhang, strict=True)]
    if any(p < enough for p, enough in zip(padded, least, strict=True)) or min(size) < 1:
        spread = f" (dilation {dilation[0]}x{dilation[1]})" if dilation != (1, 1) else ""
        raise UsageError(
            f"a {kernel_size[0]}x{kernel_size[1]} window{spread} needs a map of at least {least[0]}x{least[1]}, "
            f"and here it is {padded[0]}x{padded[1]} with its padding; take a larger input"
        )
    counts = [(p - e + o) // s + 1 for p, e, o, s in zip(padded, extents, overhang, stride, strict=True)]
    # Only ceil_mode can place a window beyond the map and the padding before it; there is one such at most.
    height, width = (
        count - ((count - 1) * s >= n + low) if ceil_mode else count
        for count, s, n, (low, _) in zip(counts, stride, size, sides, strict=True)
    )
    return height, width


def make_window(
    size: Sequence[int],
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Window:
    """The window over a map of `size` (height, width), every form of its sizes resolved.

    Raises:
      UsageError: as `pair`, `resolve_padding` and `window_output`.
    """
    kernel, strides = pair(kernel_size, "kernel_size"), pair(stride, "stride")
    spread = pair(dilation, "dilation")
    sides = resolve_padding(padding, kernel, stride=strides, dilation=spread)
    output = window_output(size, kernel, strides, sides, spread, ceil_mode=ceil_mode)
    covered = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(output, strides, spread, kernel, strict=True)]
    (top, bottom), (left, right) = sides
    reach = (top, max(bottom, covered[0] - size[0] - top)), (left, max(right, covered[1] - size[1] - left))
    return Window(kernel, strides, spread, sides, reach, output)
