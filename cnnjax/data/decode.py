# SPDX-License-Identifier: Apache-2.0
"""Records of a source to a split in memory: read by several threads, checked, of one shape."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from cnnjax.data.images import picture_to_array
from cnnjax.errors import CnnjaxError, RunError, UsageError, unknown, why
from cnnjax.types import Config, Records, Split

_CHUNK = 32  # records that a thread takes at once, so that handing over costs little
_BAR_AFTER_SECONDS = 2.0


class Decoded(NamedTuple):
    """A split, and what could not be read for it."""

    split: Split
    unreadable: list[str]  # "name (reason)" of the records that are not in the split
    stored: Counter[tuple[int, int, str]]  # pictures by height, width and PIL mode, as they were before the policy


class _Row(NamedTuple):
    """What became of a record: an image and a label, or why it is unreadable, or neither: its label is dropped."""

    name: str
    image: np.ndarray | None = None
    label: int = -1
    unreadable: str = ""
    stored: tuple[int, int, str] | None = None  # height, width, PIL mode


def kept_labels(label_names: tuple[str, ...], labels: tuple[str, ...]) -> np.ndarray:
    """The new number of each label, -1 for one that is dropped: [K] int32.

    Args:
      label_names: the source's K names.
      labels: config.data.labels, the names to keep, in their new order; () keeps all.

    Raises:
      UsageError: a name is unknown or given twice.
    """
    if not labels:
        return np.arange(len(label_names), dtype=np.int32)
    numbers = np.full(len(label_names), -1, np.int32)
    for number, name in enumerate(labels):
        if name not in label_names:
            raise UsageError(f"{unknown('label', name, label_names)}; set config.data.labels")
        if name in labels[:number]:
            raise UsageError(f"config.data.labels names {name!r} twice; name each label once")
        numbers[label_names.index(name)] = number
    return numbers


def image_bytes(records: Records, indices: np.ndarray, numbers: np.ndarray, data: Config) -> int:
    """Bytes that one decoded image takes: of the first that can be read, 0 when none can."""
    rows = (_read(records, int(index), numbers, data) for index in indices)
    return next((row.image.nbytes for row in rows if row.image is not None), 0)


def decode(
    records: Records, indices: np.ndarray, numbers: np.ndarray, data: Config, max_bytes: int, title: str
) -> Decoded:
    """Reads and decodes records into one array, in the order of `indices`.

    All unreadable records are gathered; whether they are an error is the caller's to say. A bar shows on a
    terminal's stderr when it takes long.

    Args:
      records: a split of a source.
      indices: [N] integers, which records.
      numbers: [K] int32 from `kept_labels`.
      data: config.data, the policy.
      max_bytes: most bytes of images to keep.
      title: what the split is called before the user.

    Returns:
      The split, of at most N examples, the unreadable records, and what the pictures were like.

    Raises:
      UsageError: pictures of several shapes, or that the policy does not suit; it names them and the keys to set.
      RunError: a label is outside [0, K), or the images take more than `max_bytes`.
    """
    image = np.empty((0, 0, 0, 0), np.uint8)
    label = np.empty(len(indices), np.int32)
    kept, first, unreadable = 0, "", []
    stored: Counter[tuple[int, int, str]] = Counter()
    for row in _rows(records, indices, numbers, data, title):
        if row.unreadable:
            unreadable.append(f"{row.name} ({row.unreadable})")
        if row.image is None:
            continue
        if not first:
            first = row.name
            image = np.empty((min(len(indices), max_bytes // row.image.nbytes), *row.image.shape), np.uint8)
        elif row.image.shape != image.shape[1:]:
            raise UsageError(mixed(first, image.shape[1:], row.name, row.image.shape))
        if kept == len(image):
            raise RunError(
                too_large(f"the images of {title} take more than the {max_bytes / 2**30:.3g} GiB left", data)
            )
        image[kept], label[kept] = row.image, row.label
        kept += 1
        if row.stored:
            stored[row.stored] += 1
    return Decoded(Split(image[:kept], label[:kept]), unreadable, stored)


def too_large(what: str, data: Config) -> str:
    """The sentence for images that are more than config.data.max_resident_gib allows."""
    remedy = (
        "raise it, make the images smaller with config.data.image_size, or let them stream: config.data.stream=auto"
    )
    return f"{what}, but config.data.max_resident_gib is {data.max_resident_gib:g}; {remedy}"


def mixed(name: str, shape: tuple[int, ...], other_name: str, other_shape: tuple[int, ...]) -> str:
    """The sentence for two images [H,W,C] that differ in shape."""
    remedies = []
    if shape[2] != other_shape[2]:
        remedies.append("config.data.color=rgb (or gray)")
    if shape[:2] != other_shape[:2]:
        remedies.append(f"config.data.image_size='({shape[0]}, {shape[1]})' (or another size)")
    return f"{name} is {_kind(shape)}, but {other_name} is {_kind(other_shape)}; set {' and '.join(remedies)}"


def _kind(shape: tuple[int, ...]) -> str:
    color = {1: "gray", 3: "colour"}.get(shape[2], f"{shape[2]}-channel")
    return f"{color} of {shape[0]}x{shape[1]} pixels (height x width)"


def _rows(records: Records, indices: np.ndarray, numbers: np.ndarray, data: Config, title: str) -> Iterator[_Row]:
    from tqdm import tqdm

    def read_chunk(chunk: np.ndarray) -> list[_Row]:
        return [_read(records, int(index), numbers, data) for index in chunk]

    chunks = [indices[start : start + _CHUNK] for start in range(0, len(indices), _CHUNK)]
    threads = os.cpu_count() or 1
    window = 8 * threads  # chunks in flight, which bounds the memory of what is decoded but not yet stored
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=len(indices), desc=f"reading {title}", unit="image", delay=_BAR_AFTER_SECONDS, disable=None) as bar,
    ):
        for start in range(0, len(chunks), window):
            for rows in pool.map(read_chunk, chunks[start : start + window]):
                yield from rows
                bar.update(len(rows))


def _read(records: Records, index: int, numbers: np.ndarray, data: Config) -> _Row:
    name = records.name(index)
    try:
        picture, label = records.read(index)
        if not 0 <= label < len(numbers):
            raise RunError(f"{name} has label {label}, outside 0..{len(numbers) - 1}; mend it, or choose another split")
        if numbers[label] < 0:
            return _Row(name)
        stored = None if isinstance(picture, np.ndarray) else (picture.height, picture.width, picture.mode)
        return _Row(name, picture_to_array(picture, data), int(numbers[label]), stored=stored)
    except UsageError as error:  # a ValueError too, but of the config, not of the picture
        raise UsageError(f"{name}: {error}") from None
    except CnnjaxError:
        raise
    except (OSError, ValueError) as error:
        return _Row(name, unreadable=why(error))
