# SPDX-License-Identifier: Apache-2.0
"""Undecoded pictures of a set that tensorflow-datasets prepared in ArrayRecord: protocol buffers of type tf.Example."""

import threading
from typing import Any

import numpy as np

from cnnjax.data import cache
from cnnjax.data.stored import Shards
from cnnjax.errors import RunError
from cnnjax.types import Split

_BLOCK = 256  # records that are read at once in search of their labels


class Examples:
    """One split, read by worker processes too.

    Args:
      shards: its files.
      split: its name.
      image: the feature that holds the picture.
      label: the feature that holds the class.
      key: under which the cache keeps the labels: they are inside the records, all of which must be read for them.
      mode: the colours that the set declares, "L" or "RGB"; "": as stored.
    """

    def __init__(self, shards: Shards, split: str, image: str, label: str, key: str, mode: str):
        self.mode = mode
        self._shards, self._split, self._image, self._label, self._key = shards, split, image, label, key

    def labels(self) -> np.ndarray:
        """[N] int32; read once, with a bar, and kept in the cache.

        Raises:
          RunError: a record cannot be read.
        """
        if (kept := cache.load(self._key)) is not None and len(kept.label) == len(self._shards):
            return kept.label
        label = np.empty(len(self._shards), np.int32)
        from tqdm import tqdm

        with tqdm(total=len(label), desc=f"labels of {self._split}", unit="image", delay=2, disable=None) as bar:
            for first in range(0, len(label), _BLOCK):
                try:
                    block = self._shards.read(first, min(_BLOCK, len(label) - first))
                    label[first : first + len(block)] = [self._features(each, first)[1] for each in block]
                except ValueError as error:
                    raise RunError(f"labels of {self._split}: {error}; prepare the set again") from error
                bar.update(len(block))
        cache.store(self._key, Split(np.empty(0, np.uint8), label))
        return label

    def read(self, i: int) -> bytes:
        """The file of picture `i`. Raises ValueError when it cannot be read."""
        return self._features(self._shards.read(i)[0], i)[0]

    def name(self, i: int) -> str:
        """SPLIT[i]."""
        return f"{self._split}[{i}]"

    def _features(self, record: bytes, i: int) -> tuple[bytes, int]:
        example = _example_type()
        try:
            feature = example.FromString(record).features.feature
            return feature[self._image].bytes_list.value[0], feature[self._label].int64_list.value[0]
        except Exception as error:  # DecodeError and IndexError, of a class that is imported late
            raise ValueError(f"{self.name(i)} has no picture and label ({type(error).__name__})") from error


_import = threading.Lock()


def _example_type() -> Any:
    with _import:
        from tensorflow_datasets.proto import tf_example_pb2  # seconds the first time, in each process

    return tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]
