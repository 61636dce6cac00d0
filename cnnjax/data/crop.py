# SPDX-License-Identifier: Apache-2.0
"""Random boxes of whole pictures, drawn on the host: a pure function of (seed, epoch, example)."""

import math
from collections.abc import Callable

import numpy as np

from cnnjax.data.jpeg import Box

_STREAM = 0x63726F70 << 32  # keeps these draws apart from the orders', which share the generator
_TRIES = 10


def make_box(area: tuple[float, float], aspect: tuple[float, float]) -> Callable[[int, int, int, int, int], Box]:
    """The boxes of a random resized crop.

    Args:
      area: range of the area kept, as a fraction of the picture's; uniform.
      aspect: range of its width / height in pixels; uniform on a logarithmic scale.

    Returns:
      `box(seed, epoch, example, height, width)`. A box that does not fit into the picture is drawn again, ten times;
      then it is the largest one about the centre whose aspect is in the range.

    Reference: Szegedy et al., "Going deeper with convolutions", 2015, section 6; ten tries as in torchvision.
    """
    low, high = math.log(aspect[0]), math.log(aspect[1])

    def box(seed: int, epoch: int, example: int, height: int, width: int) -> Box:
        key = [seed % 2**64, _STREAM + int(epoch)]
        words = np.random.Philox(key=key, counter=[0, int(example), 0, 0]).random_raw(4 * _TRIES)
        uniform = ((words >> np.uint64(11)) * 2.0**-53).reshape(_TRIES, 4).tolist()  # in [0, 1)
        for share, shape, down, across in uniform:
            kept = (area[0] + share * (area[1] - area[0])) * height * width
            ratio = math.exp(low + shape * (high - low))
            tall, wide = round(math.sqrt(kept / ratio)), round(math.sqrt(kept * ratio))
            if 0 < tall <= height and 0 < wide <= width:
                return int(down * (height - tall + 1)), int(across * (width - wide + 1)), tall, wide
        wide = min(width, max(1, round(height * aspect[1])))
        tall = min(height, max(1, round(width / aspect[0])))
        return (height - tall) // 2, (width - wide) // 2, tall, wide

    return box
