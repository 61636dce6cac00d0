# SPDX-License-Identifier: Apache-2.0
"""Window arithmetic shared by convolution and pooling: pairs, padding and the size of the result."""

from collections.abc import Sequence
from typing import Any

from cnnjax.errors import UsageError

Size = int | Sequence[int]
"""A number for both axes, or (height, width)."""
Padding = str | int | Sequence[int] | Sequence[Sequence[int]]
"""'same', 'valid', a number for every side, (height, width), or ((top, bottom), (left, right))."""
Sides = tuple[tuple[int, int], tuple[int, int]]
"""Padding as ((top, bottom), (left, right))."""


def pair(value: Any, what: str, *, least: int = 1) -> tuple[int, int]:
    """`value` for height and width.

    Raises:
      UsageError: neither a whole number nor two of them, or one below `least`.
    """
    numbers = (value, value) if isinstance(value, int) else tuple(value)
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
    if not isinstance(padding, int) and any(not isinstance(side, int) for side in padding):
        height, width = padding
        return pair(height, "padding", least=0), pair(width, "padding", least=0)
    height, width = pair(padding, "padding", least=0)
    return (height, height), (width, width)


def window_output(
    size: tuple[int, int],
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    sides: Sides,
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """Height and width of what a window leaves of a map: floor((size + padding - extent) / stride) + 1.

    Raises:
      UsageError: the window does not fit into the padded map.
    """
    padded = [n + low + high for n, (low, high) in zip(size, sides, strict=True)]
    extents = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    if any(p < e for p, e in zip(padded, extents, strict=True)):
        spread = f" (dilation {dilation[0]}x{dilation[1]})" if dilation != (1, 1) else ""
        raise UsageError(
            f"a {kernel_size[0]}x{kernel_size[1]} window{spread} needs a map of at least {extents[0]}x{extents[1]}, "
            f"and here it is {padded[0]}x{padded[1]} with its padding; take a larger input"
        )
    height, width = ((p - e) // s + 1 for p, e, s in zip(padded, extents, stride, strict=True))
    return height, width
