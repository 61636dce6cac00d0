# SPDX-License-Identifier: Apache-2.0
"""Made-up pictures of any shape that a network can learn: a pattern for each class, and noise."""

import math

import numpy as np

from cnnjax.errors import UsageError
from cnnjax.types import Config, Records, Source

_GRID = 4  # patches of a pattern along each axis
_NOISE = 4  # noise has a quarter of the range of a pixel, 0..63; the pattern has 0..192
_PATTERN_KEY = 2**64 - 3  # second word of the generator's key; example numbers never come so far
_SPLITS = ("train", "validation", "test")


def load_source(name: str, data: Config) -> Source:
    """Three splits of random patterns, each picture a pure function of (split_seed, split, number).

    A class is a grid of 4x4 random patches, stretched over the picture; each picture adds noise of its own.
    Labels go round: 0, 1, ..., K-1, 0, ...

    Args:
      name: unused.
      data: config.data; reads split_seed and synthetic.num_examples, num_classes, image_shape.

    Raises:
      UsageError: a number is not positive, or the shape is not (height, width, channels).
    """
    del name
    num_examples, num_classes = data.synthetic.num_examples, data.synthetic.num_classes
    shape = tuple(data.synthetic.image_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise UsageError(f"config.data.synthetic.image_shape is {shape}; set it to (height, width, channels)")
    for key in ("num_examples", "num_classes"):
        if data.synthetic[key] < 1:
            raise UsageError(f"config.data.synthetic.{key} is {data.synthetic[key]}; set it to 1 or more")
    seed = data.split_seed
    rows, columns = (np.arange(side) * _GRID // side for side in shape[:2])
    coarse = _noise(seed, _PATTERN_KEY, num_classes * _GRID**2 * shape[2])
    pattern = coarse.reshape(num_classes, _GRID, _GRID, shape[2]) // 4 * 3  # 0..189, so that the sum stays below 253

    def records(split: str, count: int) -> Records:
        def read(i: int) -> tuple[np.ndarray, int]:
            label = i % num_classes
            noise = _noise(seed, len(_SPLITS) * i + _SPLITS.index(split), math.prod(shape)).reshape(shape)
            clean = pattern[label].take(rows, axis=0).take(columns, axis=1)
            return clean + noise // _NOISE, label

        return Records(count, read, lambda i: f"synthetic {split}[{i}]")

    quarter = max(1, num_examples // 4)
    sizes = {"train": num_examples, "validation": quarter, "test": quarter}
    label_names = tuple(f"class {k}" for k in range(num_classes))
    fingerprint = f"synthetic-1 {seed} {num_examples} {num_classes} {shape}"
    return Source("synthetic", label_names, {split: records(split, n) for split, n in sizes.items()}, fingerprint)


def _noise(seed: int, word: int, count: int) -> np.ndarray:
    """[count] uint8, uniform; raw words of the generator, whose stream does not change with numpy's release."""
    key = np.array([seed % 2**64, word], np.uint64)
    return np.random.Philox(key=key).random_raw(-(-count // 8)).astype("<u8").view(np.uint8)[:count]
