# SPDX-License-Identifier: Apache-2.0
"""CRC-32 of arrays: the storage library notices a file that is cut short, but not one whose bits have flipped."""

import zlib

import jax
import numpy as np

from cnnjax.types import PyTree


def checksums(tree: PyTree) -> dict[str, int]:
    """CRC-32 of the bytes of every array, by its path ("params/conv1/kernel").

    The same on any number of devices and processes, however the arrays lie on them. Waits for the arrays.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): _crc(leaf) for path, leaf in leaves}


def _crc(leaf: jax.Array | np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(_on_host(leaf)).reshape(-1).view(np.uint8).data)


def _on_host(leaf: jax.Array | np.ndarray) -> np.ndarray:
    if isinstance(leaf, np.ndarray) or leaf.is_fully_addressable:
        return np.asarray(leaf)
    if leaf.is_fully_replicated:
        return np.asarray(leaf.addressable_data(0))
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(leaf, tiled=True)
