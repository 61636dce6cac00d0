# SPDX-License-Identifier: Apache-2.0
"""Image classification sets by their names in tensorflow-datasets, read without TensorFlow.

A set is read as `run.py prepare` leaves it: prepared once, in ArrayRecord, which is open to random access. MNIST,
Fashion-MNIST, CIFAR-10 and CIFAR-100, when not prepared, are read from their publishers' files.
"""

import contextlib
import hashlib
import io
import logging
import os
import pathlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from PIL import Image

from cnnjax.data import cache, raw
from cnnjax.data.examples import Examples
from cnnjax.data.images import read_picture
from cnnjax.data.stored import Shards
from cnnjax.data.tfds_description import check_description
from cnnjax.data.tfds_features import boolean_features, image_and_attribute, image_and_label
from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.types import Config, Records, Source

_NAME = re.compile(r"(?P<name>[A-Za-z]\w*)(/(?P<config>[\w.\-]+))?(:(?P<version>(\d+|\*)(\.(\d+|\*)){2}))?")
_MODES = {1: "L", 3: "RGB"}  # of pictures, by the channels that their set declares
_BLOCK_BYTES = 1 << 21
_BLOCK_RECORDS = 512

logger = logging.getLogger(__name__)


class Name(NamedTuple):
    """NAME[/CONFIG][:VERSION] of tensorflow-datasets."""

    name: str
    config: str | None
    version: str | None

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        return f"tfds:{self.name}{config}{f':{self.version}' if self.version else ''}"


def load_source(name: str, data: Config) -> Source:
    """A set of tensorflow-datasets, or the publisher's files of one.

    Args:
      name: NAME, NAME/CONFIG or NAME:VERSION of a set of tensorflow-datasets, or of a prepared one of the user's own.
      data: config.data; reads dir and attribute.

    Returns:
      A source with all splits of the set. Labels without names are called "0", "1", ...; those of an attribute
      "not NAME" and "NAME".

    Raises:
      UsageError: there is no such set, or it has no such attribute.
      RunError: it is not on this machine and not to be had, or is no image classification set.
    """
    wanted, folder = parse_name(name), data_folder(data.dir)
    builder = find_prepared(wanted, folder)
    if builder is not None:
        return _prepared_source(builder, data.attribute)
    if data.attribute and wanted.name in raw.SETS:
        raise UsageError(unknown("attribute (config.data.attribute)", data.attribute, ()))
    if wanted.name in raw.SETS:
        source = raw.load_source(wanted.name, folder)
        if source is None:
            try:
                source = raw.download_source(wanted.name)
            except RunError as error:
                raise RunError(_not_there(wanted, folder, str(error))) from error
        return source
    check_known(wanted)
    raise RunError(_not_there(wanted, folder))


def parse_name(name: str) -> Name:
    """Splits NAME[/CONFIG][:VERSION].

    Raises:
      UsageError: it is not of that form.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise UsageError(f"tfds:{name} is not of the form tfds:NAME[/CONFIG][:VERSION], as in tfds:cifar10:3.0.2")
    return Name(match["name"], match["config"], match["version"])


def data_folder(directory: str | None) -> pathlib.Path:
    """Where prepared sets lie: `directory`, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return pathlib.Path(directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def check_known(name: Name) -> None:
    """Raises UsageError, with the nearest names, for a set that tensorflow-datasets does not have."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)  # the community's list is on the network
    if name.name not in known:
        raise UsageError(unknown("tensorflow-datasets set", name.name, known))


def find_prepared(name: Name, folder: pathlib.Path) -> Any | None:
    """The builder of a prepared set in ArrayRecord, None when there is none.

    Without a version the newest that is there counts, without a config the set's default.

    Raises:
      RunError: what is there cannot be read.
    """
    if not (folder / name.name).is_dir():
        return None
    check_description(folder / name.name)
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import read_only_builder

    given = {key: value for key, value in (("config", name.config), ("version", name.version)) if value}
    try:
        builder = read_only_builder.builder_from_files(name.name, data_dir=str(folder), **given)
    except tfds.core.DatasetNotFoundError:
        return None
    except Exception as error:  # a file of its description is damaged: whatever parses it raises what it likes
        detail = " ".join(str(error).split())[:200]
        place = folder / name.name
        raise RunError(f"cannot read the prepared set in {place} ({detail}); remove it, prepare it again") from error
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        logger.warning("%s is not in ArrayRecord: nothing else is read", builder.data_path)
        return None
    return builder


def _not_there(name: Name, folder: pathlib.Path, reason: str = "") -> str:
    """The sentence for a set that is nowhere: what was looked for, where, and how to get it."""
    place = folder / name.name
    described = [*place.glob("*/dataset_info.json"), *place.glob("*/*/dataset_info.json")]
    found = sorted(str(path.parent.relative_to(folder)) for path in described)
    inside = f" (there is {', '.join(found)})" if found else ""
    text = f"{name} is not there: no ArrayRecord set in {place}{inside}"
    command = f"'python run.py prepare {name}'"
    if name.name not in raw.SETS:
        return f"{text}; run {command}, or set config.data.dir to the folder that holds {name.name}/"
    return (
        f"{text}, {raw.lacking(name.name, folder)}, and {reason}; run {command} where there is a network, "
        f"or put the raw files into {place}"
    )


def _prepared_source(builder: Any, attribute: str) -> Source:
    if attribute:
        image, label = image_and_attribute(builder, attribute)
        names = (f"not {attribute}", attribute)
    else:
        image, label = image_and_label(builder)
        names = tuple(str(name) for name in builder.info.features[label].names)
    digest = hashlib.sha256()
    splits = {}
    for split, info in builder.info.splits.items():
        size = 0
        try:
            files = [pathlib.Path(file) for file in info.filepaths]
        except Exception as error:  # a template of names that is none: whatever formats it raises what it likes
            raise RunError(
                f"{builder.data_path} names its files wrongly ({str(error)[:80]}); prepare it again"
            ) from error
        for path in files:
            if path.parent != pathlib.Path(builder.data_path):
                raise RunError(f"{builder.data_path} names a file outside its folder, {path}; prepare the set again")
            try:
                status = path.stat()
            except OSError:
                raise RunError(
                    f"{path} of the prepared set is missing; copy it there, or prepare the set again"
                ) from None
            digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
            size += status.st_size
        if info.num_examples > size:
            raise RunError(
                f"{builder.data_path} says it has {info.num_examples:,} records in {size:,} bytes; prepare it again"
            )
        if info.num_examples:
            splits[split] = _records(builder, split, image, label)
    logger.info("%s: prepared set in %s", builder.name, builder.data_path)
    fingerprint = f"tfds-1 {builder.info.full_name} {digest.hexdigest()}"
    for split, records in splits.items():
        info = builder.info.splits[split]
        kept = cache.cache_key("labels", fingerprint, split, label)
        shards = Shards([str(path) for path in info.filepaths], info.shard_lengths)
        stored = Examples(shards, split, image, label, kept, _MODES.get(builder.info.features[image].shape[-1], ""))
        splits[split] = records._replace(stored=stored)
    return Source(builder.name, names, splits, fingerprint)


def attributes(name: str, data: Config) -> list[str]:
    """The yes-or-no features of a prepared set, which config.data.attribute may name; none of one that is not there."""
    builder = find_prepared(parse_name(name), data_folder(data.dir))
    return [] if builder is None else list(boolean_features(builder))


def _records(builder: Any, split: str, image: str, label: str) -> Records:
    import tensorflow_datasets as tfds
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    # Records are parsed here, and not by the data source, which decodes every feature, and slowly.
    source = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    example: Any = tf_example_pb2
    mode = _MODES.get(builder.info.features[image].shape[-1])

    def fetch(indices: Sequence[int]) -> Sequence[bytes]:
        try:
            return source.__getitems__(indices)
        except Exception as error:  # the C++ reader's, about a damaged file
            raise ValueError(f"its ArrayRecord file is damaged: {error}") from error

    record = read_blocks(fetch, len(source), builder.info.splits[split].num_bytes)

    def read(i: int) -> tuple[Image.Image, int]:
        try:
            feature = example.Example.FromString(record(i)).features.feature
            file: Any = io.BytesIO(feature[image].bytes_list.value[0])
            number = feature[label].int64_list.value[0]
        except (DecodeError, IndexError) as error:
            raise ValueError(f"it has no picture and label ({error})") from error
        picture = read_picture(file)
        if mode and picture.mode in ("L", "RGB") and picture.mode != mode:
            picture = picture.convert(mode)  # as the set declares: some hold gray files among their colour ones
        return picture, number

    return Records(len(source), read, lambda i: f"{split}[{i}]")


def read_blocks(
    fetch: Callable[[Sequence[int]], Sequence[bytes]], num_records: int, num_bytes: int
) -> Callable[[int], bytes]:
    """Single records out of blocks, for reading in order: ArrayRecord fetches many small records 20 times as fast.

    A record fetched alone is only that. The second from the same block brings the whole block, which is kept
    for a while. So reading in order, by any number of threads, costs little, and reading at random no more than before.

    Args:
      fetch: `fetch(indices)` gives those records; called from several threads.
      num_records: how many there are.
      num_bytes: the size of all of them, roughly.

    Returns:
      `read(i)`, the record `i`.
    """
    size = min(_BLOCK_RECORDS, _BLOCK_BYTES * num_records // max(1, num_bytes))
    if size < 8:
        return lambda i: fetch([i])[0]
    recent: OrderedDict[int, Sequence[bytes]] = OrderedDict()  # empty: asked for once
    num_recent = 2 + (os.cpu_count() or 1)
    lock = threading.Lock()

    def read(i: int) -> bytes:
        number, offset = divmod(i, size)
        with lock:
            if number not in recent:
                recent[number] = ()
                if len(recent) > num_recent:
                    recent.popitem(last=False)
            elif not recent[number]:
                with contextlib.suppress(ValueError):  # one damaged record spoils a block, not its neighbours
                    recent[number] = fetch(range(number * size, min((number + 1) * size, num_records)))
            block = recent[number]
        return block[offset] if block else fetch([i])[0]

    return read
