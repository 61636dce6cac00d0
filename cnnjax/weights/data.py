# SPDX-License-Identifier: Apache-2.0
"""What weights are for: the names of the classes and the shape of the images, where the weights cannot tell."""

import contextlib
import logging
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from cnnjax.data import SOURCES
from cnnjax.data.images import picture_to_array
from cnnjax.errors import CnnjaxError, UsageError
from cnnjax.types import Config, Source
from cnnjax.workdir import DatasetInfo

logger = logging.getLogger(__name__)

ImageShape = tuple[int, int, int]


class Known(NamedTuple):
    """What is known of the data before the weights are looked at.

    Attributes:
      name: the data set's.
      label_names: of its classes; () when they are not known.
      given: the names are the user's (`--labels`), and must be as many as there are classes.
      image_shapes: (height, width, channels); the one that fits, or those that may.
    """

    name: str
    label_names: tuple[str, ...]
    given: bool
    image_shapes: tuple[ImageShape, ...]


def known_data(data: Config, *, labels: str | None = None, image: str | None = None) -> Known:
    """What `config.data`, the file of label names and `--input` say; no data set is fetched or decoded whole.

    Raises:
      UsageError: the file or the shape is wrong, or nothing tells the size of the images.
    """
    source = local_source(data)
    names = read_labels(Path(labels).expanduser()) if labels else ()
    shapes: tuple[ImageShape, ...] = ()
    if image:
        shapes = (parse_shape(image),)
    elif source is not None and (shape := _stored_shape(source, data)) is not None:
        shapes = (shape,)
    elif data.image_size:
        channels = {"gray": (1,), "rgb": (3,)}.get(data.color, (3, 1))
        shapes = tuple((*data.image_size, count) for count in channels)
    if not shapes:
        raise UsageError(
            f"the size of the images is not to be told: config.data.image_size is (), and the data of {data.source} "
            "are not here; give --input=HxWxC"
        )
    known = () if source is None else tuple(data.labels) or source.label_names
    return Known(data.source if source is None else source.name, names or known, bool(names), shapes)


def describe(known: Known, num_classes: int, image_shape: ImageShape) -> DatasetInfo:
    """The DatasetInfo of a network for `num_classes` classes; classes without a name are called "class 0", ...

    Raises:
      UsageError: the user's names are more or fewer than the classes.
    """
    names = known.label_names
    if len(names) != num_classes:
        if known.given:
            raise UsageError(f"--labels has {len(names)} names, the weights are for {num_classes} classes")
        if names:
            logger.warning("%s has %d classes, the weights %d: named by number", known.name, len(names), num_classes)
        names = tuple(f"class {i}" for i in range(num_classes))
    return DatasetInfo(known.name, names, image_shape, {})


def local_source(data: Config) -> Source | None:
    """The source of `data` where it lies on this machine already, else None. Nothing is fetched."""
    prefix, _, name = data.source.partition(":")
    with contextlib.suppress(CnnjaxError):
        if prefix == "tfds":
            from cnnjax.data import raw, tfds

            wanted, folder = tfds.parse_name(name), tfds.data_folder(data.dir)
            if tfds.find_prepared(wanted, folder) is None:
                return raw.load_source(wanted.name, folder) if wanted.name in raw.SETS else None
        if prefix in SOURCES:
            return SOURCES[prefix](name, data)
    return None


def read_labels(path: Path) -> tuple[str, ...]:
    """The names of the classes, a line each; a name that comes again gets a number: "crane", "crane (2)".

    Raises:
      UsageError: the file cannot be read, or has an empty line between names.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read --labels={path}: {getattr(error, 'strerror', None) or error}") from error
    if not all(lines):
        raise UsageError(f"--labels={path}: line {lines.index('') + 1} is empty; write one name a line")
    if not lines:
        raise UsageError(f"--labels={path} holds no names")
    seen: Counter[str] = Counter()
    names = []
    for name in lines:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(names)


def parse_shape(text: str) -> ImageShape:
    """`HxWxC` as three numbers.

    Raises:
      UsageError: it is not of that form.
    """
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--input is {text!r}; write height, width and channels as 224x224x3")
    height, width, channels = map(int, parts)
    return height, width, channels


def _stored_shape(source: Source, data: Config) -> ImageShape | None:
    """The shape of the first picture, decoded as `data` says."""
    for records in source.splits.values():
        with contextlib.suppress(OSError, ValueError, CnnjaxError):
            height, width, channels = picture_to_array(records.read(0)[0], data).shape
            return height, width, channels
    return None
