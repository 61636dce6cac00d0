# SPDX-License-Identifier: Apache-2.0
"""How a convolution moves over a map, as one hashable value; every pair is (height, width)."""

from typing import NamedTuple

from cnnjax.layers.sizes import Sides

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """What, beside two arrays, defines a convolution and both its gradients.

    Attributes:
      size: of the map.
      kernel_size: taps of the kernel.
      stride: pixels from one window to the next.
      sides: zeros around the map, ((top, bottom), (left, right)).
      dilation: pixels from one tap to the next.
      groups: parts that the channels are split into.
    """

    size: Pair
    kernel_size: Pair
    stride: Pair
    sides: Sides
    dilation: Pair
    groups: int

    @property
    def output(self) -> Pair:
        """Windows along each axis."""
        height, width = (
            (self.size[i] + sum(self.sides[i]) - self.dilation[i] * (self.kernel_size[i] - 1) - 1) // self.stride[i] + 1
            for i in (0, 1)
        )
        return height, width

    def mirrored(self) -> "Geometry | None":
        """The convolution of the result's gradient with the mirrored kernel that gives the map's gradient.

        None where that is none: with a stride, or with more padding than the kernel reaches.
        """
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        (top, bottom), (left, right) = self.sides
        sides = (reach[0] - top, reach[0] - bottom), (reach[1] - left, reach[1] - right)
        if self.stride != (1, 1) or min(min(side) for side in sides) < 0:
            return None
        return self._replace(size=self.output, sides=sides)
