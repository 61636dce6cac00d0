# SPDX-License-Identifier: Apache-2.0
"""Data sets by name: a source's records, carved into splits, decoded by the config's policy."""

import json
import logging
from collections.abc import Callable, Sequence

import numpy as np
import PIL

from cnnjax.data import cache, decode
from cnnjax.data.carve import Part, carve, stratified
from cnnjax.data.folds import divide, num_folds
from cnnjax.data.images import check_policy
from cnnjax.data.overview import mixture
from cnnjax.data.streamed import select
from cnnjax.data.streaming import streamed_splits
from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.types import Config, Dataset, Source, Split

SPLITS = ("train", "validation", "test")

_SHOWN = 3  # unreadable pictures that a message names

logger = logging.getLogger(__name__)


def _digits(name: str, data: Config) -> Source:
    from cnnjax.data import digits

    return digits.load_source(name, data)


def _folder(name: str, data: Config) -> Source:
    from cnnjax.data import folder

    return folder.load_source(name, data)


def _synthetic(name: str, data: Config) -> Source:
    from cnnjax.data import synthetic

    return synthetic.load_source(name, data)


def _pack(name: str, data: Config) -> Source:
    from cnnjax.data import pack

    return pack.load_source(name, data)


def _tar(name: str, data: Config) -> Source:
    from cnnjax.data import tar

    return tar.load_source(name, data)


def _tfds(name: str, data: Config) -> Source:
    from cnnjax.data import tfds

    return tfds.load_source(name, data)


SOURCES: dict[str, Callable[[str, Config], Source]] = {
    "digits": _digits,
    "tfds": _tfds,
    "folder": _folder,
    "pack": _pack,
    "tar": _tar,
    "synthetic": _synthetic,
}
"""Loaders by the part of `config.data.source` before the colon; the part after it is their first argument."""

_NAMED = {
    "tfds": "NAME",
    "folder": "PATH",
    "pack": "DIR",
    "tar": "DIR",
}  # sources that take an argument; slow to decode, hence cached


def load_dataset(data: Config, splits: Sequence[str] = SPLITS) -> Dataset:
    """Loads the wanted splits of `data.source` into host memory, decoded to uint8, or as splits that are streamed.

    Args:
      data: config.data.
      splits: some of "train", "validation", "test"; the others are not decoded.

    Returns:
      The data set. A split that `data` says not to carve (its fraction is 0) and the source lacks is left out.

    Raises:
      UsageError: a source, split, label or policy is unknown or does not suit the pictures.
      RunError: the data are not there, too large, or unreadable.
    """
    for split in splits:
        if split not in SPLITS:
            raise UsageError(unknown("split", split, SPLITS))
    check_policy(data)
    if data.stream not in ("auto", "true", "false"):
        raise UsageError(unknown("config.data.stream", data.stream, ("auto", "true", "false")))
    if num_folds(data) and data.fold < 0:
        raise UsageError("config.data.folds divides the pictures: say which is meant by config.data.fold=0 and so on")
    if data.on_bad_image not in ("error", "skip"):
        raise UsageError(unknown("config.data.on_bad_image", data.on_bad_image, ("error", "skip")))
    dataset = _load(data, SPLITS if data.folds else splits)
    if data.folds:
        folds = divide(dataset.splits["train"], dataset.label_names, data)
        dataset = dataset._replace(splits={name: folds[name] for name in SPLITS if name in splits and name in folds})
    return _with_train_examples(dataset, data)


def _load(data: Config, splits: Sequence[str]) -> Dataset:
    """The splits as they are carved from the source, out of the cache where they are in it."""
    source = load_source(data)
    numbers = decode.kept_labels(source.label_names, tuple(data.labels))
    parts = carve({name: records.num_records for name, records in source.splits.items()}, data)
    label_names = tuple(data.labels) or source.label_names
    if (streamed := streamed_splits(source, parts, numbers, data)) is not None:
        dataset = Dataset(source.name, label_names, {name: streamed[name] for name in splits if name in streamed})
        _check_shapes(dataset)
        return dataset
    parts = {name: parts[name] for name in SPLITS if name in splits and name in parts}

    keys = _cache_keys(source, parts, data)
    found = {name: cache.load(key) for name, key in keys.items()}
    loaded = {name: split for name, split in found.items() if split is not None}
    missing = {name: part for name, part in parts.items() if name not in loaded}
    room = _room(source, missing, loaded, numbers, data)
    unreadable: dict[str, list[str]] = {}
    for name, part in missing.items():
        title = f"{source.name} {name}"
        decoded = decode.decode(source.splits[part.split], part.indices, numbers, data, room, title)
        loaded[name], unreadable[name] = decoded.split, decoded.unreadable
        if told := mixture(decoded.stored, decoded.split.image.shape[1:]):
            logger.info("%s: %s", title, told)
        room -= loaded[name].image.nbytes
    _report_unreadable([name for names in unreadable.values() for name in names], data.on_bad_image)
    dataset = Dataset(source.name, label_names, {name: loaded[name] for name in parts})
    _check_shapes(dataset)
    for name in missing:
        if name in keys and not unreadable[name]:  # what cannot be read today may be read tomorrow
            cache.store(keys[name], loaded[name])
    return dataset


def _with_train_examples(dataset: Dataset, data: Config) -> Dataset:
    """`dataset` with `data.train_examples` of its training examples; 0: all."""
    if not data.train_examples or "train" not in dataset.splits:
        return dataset
    split = dataset.splits["train"]
    rows = stratified(split.label, data.train_examples, len(dataset.label_names), data.split_seed)
    return dataset._replace(splits={**dataset.splits, "train": select(split, rows)})


def _cache_keys(source: Source, parts: dict[str, Part], data: Config) -> dict[str, str]:
    """The cache's key of each split; none for sources that are made as fast as they are read."""
    if data.source.partition(":")[0] not in _NAMED:
        return {}
    policy = {
        key: data[key]
        for key in ("color", "exif_orientation", "image_size", "resize", "crop_from", "interpolation", "labels")
    }
    what = json.dumps([source.name, source.fingerprint, source.label_names, policy, PIL.__version__])
    return {
        name: cache.cache_key(what, part.split, part.indices.astype("<i8").tobytes()) for name, part in parts.items()
    }


def _room(source: Source, missing: dict[str, Part], loaded: dict[str, Split], numbers: np.ndarray, data: Config) -> int:
    """Bytes that are left for the missing splits; an error, before any is decoded, when they will not do."""
    room = int(data.max_resident_gib * 2**30)
    needed = sum(split.image.nbytes for split in loaded.values())
    room -= needed
    if missing and not data.labels:  # where labels are dropped, the size is known only on the way
        part = next(iter(missing.values()))
        each = decode.image_bytes(source.splits[part.split], part.indices, numbers, data)
        needed += each * sum(len(part.indices) for part in missing.values())
    if needed > data.max_resident_gib * 2**30:
        raise RunError(decode.too_large(f"the images of {source.name} take {needed / 2**30:.3g} GiB", data))
    return room


def load_source(data: Config) -> Source:
    """What `data.source` names; nothing is decoded. Raises UsageError and RunError as the sources do."""
    prefix, colon, name = data.source.partition(":")
    if prefix not in SOURCES:
        raise UsageError(f"{unknown('data source', prefix, SOURCES)}; set config.data.source")
    argument = _NAMED.get(prefix, "")
    if bool(name) != bool(argument) or (colon and not argument):
        wanted = f"{prefix}:{argument}" if argument else prefix
        raise UsageError(f"config.data.source {data.source!r} is not of the form {wanted}; set it to that")
    return SOURCES[prefix](name, data)


def _report_unreadable(names: list[str], on_bad_image: str) -> None:
    if not names:
        return
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    sentence = f"{len(names)} of the pictures cannot be read: {', '.join(names[:_SHOWN])}{more}"
    if on_bad_image == "error":
        raise RunError(f"{sentence}; mend or remove them, or set config.data.on_bad_image=skip")
    logger.warning("%s; skipped", sentence)


def _check_shapes(dataset: Dataset) -> None:
    """Every split has pictures, all of one shape."""
    first: tuple[str, np.ndarray] | None = None
    for name, split in dataset.splits.items():
        if not len(split.label):
            raise RunError(
                f"the {name} split of {dataset.name} has no pictures; check config.data.labels and the files"
            )
        if first is None:
            first = name, split.image
        elif split.image.shape[1:] != first[1].shape[1:]:
            pair = (f"the {first[0]} split", first[1].shape[1:], f"the {name} split", split.image.shape[1:])
            raise UsageError(decode.mixed(*pair))
