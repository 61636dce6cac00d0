# SPDX-License-Identifier: Apache-2.0
"""The formats that MNIST, Fashion-MNIST and CIFAR are published in: IDX, CIFAR binary, gzip and tar around them.

Files come from anywhere, so all is checked before it is believed: sizes against headers, labels against their
range, archives against a bound on what they unpack to. Nothing is unpacked to disk.

Reference: LeCun, Cortes and Burges, "The MNIST database" (IDX); Krizhevsky, "The CIFAR-10 dataset" (binary version).
"""

import gzip
import io
import math
import pathlib
import struct
import tarfile
import zlib
from collections.abc import Collection

import numpy as np

from cnnjax.errors import RunError

MAX_BYTES = 1 << 29
"""Most that a file may hold once unpacked; CIFAR's archives, the largest published, hold 184 MB."""

_CIFAR_SHAPE = (3, 32, 32)


def damaged(path: pathlib.Path, what: str) -> RunError:
    """The error for a file that is not what its name says: `what` is wrong with it."""
    return RunError(f"{path} {what}; put the publisher's file in its place, or remove it to have it downloaded")


def read_bytes(path: pathlib.Path) -> bytes:
    """The contents of a file, unpacked when its name ends in .gz.

    Raises:
      RunError: it cannot be read, is cut short or damaged, or unpacks to more than MAX_BYTES.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, f"is cut short or damaged ({error})") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}; check its permissions") from error
    if len(data) > MAX_BYTES:
        raise damaged(path, f"holds more than {MAX_BYTES >> 20} MiB")
    return data


def parse_idx(path: pathlib.Path, data: bytes, num_axes: int) -> np.ndarray:
    """An IDX file of unsigned bytes.

    Args:
      path: where `data` comes from, for the error.
      data: the unpacked file.
      num_axes: 3 for images, 1 for labels.

    Returns:
      uint8 [N,H,W] or [N], a view of `data`.

    Raises:
      RunError: the magic number is another, or the size is not the one in the header.
    """
    start = 4 + 4 * num_axes
    magic = 0x0800 + num_axes  # 0x08 is "unsigned byte"
    if len(data) < start:
        raise damaged(path, f"is cut short: {len(data)} bytes are no IDX header")
    found, *shape = struct.unpack(f">{1 + num_axes}I", data[:start])
    if found != magic:
        raise damaged(
            path, f"is no IDX file of {'images' if num_axes == 3 else 'labels'} (magic number {found}, not {magic})"
        )
    if math.prod(shape) != len(data) - start or not len(data) > start:
        sides = " x ".join(map(str, shape))
        raise damaged(path, f"has {len(data) - start} bytes after a header that says {sides}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def parse_cifar(path: pathlib.Path, data: bytes, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """A file of the CIFAR binary version: records of labels, then 32x32 pixels, red plane first.

    Args:
      path: where `data` comes from, for the error.
      data: the file.
      label_bytes: 1 for CIFAR-10; 2 for CIFAR-100, the coarse label and the fine one.

    Returns:
      (image uint8 [N,32,32,3], label uint8 [N]), the last label of each record.

    Raises:
      RunError: the size is no number of records.
    """
    record = label_bytes + math.prod(_CIFAR_SHAPE)
    if not data or len(data) % record:
        raise damaged(path, f"has {len(data)} bytes, which is no multiple of a record's {record}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    image = rows[:, label_bytes:].reshape(-1, *_CIFAR_SHAPE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(image), rows[:, label_bytes - 1].copy()


def read_tar(path: pathlib.Path, wanted: Collection[str]) -> dict[str, bytes]:
    """The members of a tar.gz archive whose file names are `wanted`, by those names; folders are dropped.

    Raises:
      RunError: the archive is damaged, has a member outside its own folder or one twice, or lacks one.
    """
    data = read_bytes(path)  # unpacked whole, within the bound: no header can then make tarfile ask for more
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                parts = pathlib.PurePosixPath(member.name)
                if parts.is_absolute() or ".." in parts.parts:
                    raise damaged(path, f"has a member outside its own folder ({member.name[:60]!r})")
                if parts.name not in wanted:
                    continue
                file = archive.extractfile(member) if member.isreg() else None
                if file is None or parts.name in members:
                    raise damaged(path, f"has {parts.name} twice, or not as a file")
                members[parts.name] = file.read()
                if len(members[parts.name]) != member.size:
                    raise damaged(path, f"is cut short in {parts.name}")
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, RunError):
            raise
        raise damaged(path, f"is no tar archive, or a damaged one ({' '.join(str(error).split())[:80]})") from error
    lacking = [name for name in wanted if name not in members]
    if lacking:
        raise damaged(path, f"lacks {', '.join(lacking)}")
    return members
