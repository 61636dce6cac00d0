# SPDX-License-Identifier: Apache-2.0
"""Weights from a file: arrays by name, as stored there, whatever wrote it. Nothing in a file is ever run."""

import hashlib
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnjax.errors import RunError
from cnnjax.weights.hub import HubFile, download, parse_source
from cnnjax.weights.torch_file import read_torch

PREFIXES = ("module.", "_orig_mod.")  # of nn.DataParallel and torch.compile, before every name
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?", "BF16": "<u2",
}  # fmt: skip


class Weights(NamedTuple):
    """What a file holds.

    Attributes:
      tensors: by name, without the prefixes that wrappers put before all; float16 and bfloat16 have become float32.
      source: the file's path, or where on the Hub it is from.
      path: the file.
      sha256: of the file, hexadecimal.
      format: "safetensors" or "pytorch".
      notes: sentences for the user.
    """

    tensors: dict[str, np.ndarray]
    source: str
    path: Path
    sha256: str
    format: str
    notes: tuple[str, ...]


def read_weights(source: str) -> Weights:
    """Reads a file, or one of the Hub's (`hub.parse_source`): safetensors, or PyTorch's where PyTorch is installed.

    Raises:
      UsageError: there is no such file.
      RunError: it cannot be had or read, is damaged, or holds more than arrays.
    """
    place = parse_source(source)
    path = download(place) if isinstance(place, HubFile) else place
    if not path.is_file():
        raise RunError(f"{path} is a folder or no regular file; give the file of weights in it")
    try:
        with path.open("rb") as file:
            head = file.read(9)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    if head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        kind, (tensors, notes) = "pytorch", read_torch(path)
    elif path.suffix == ".safetensors" or head[8:] == b"{":
        kind, tensors, notes = "safetensors", read_safetensors(path), ()
    else:
        raise RunError(f"{path} is neither a safetensors nor a PyTorch file; convert it to safetensors")
    if not tensors:
        raise RunError(f"{path} holds no tensors")
    tensors, stripped = _without_prefixes(tensors)
    notes += tuple(f"all names began with {prefix!r}, which is dropped" for prefix in stripped)
    return Weights(tensors, str(place) if isinstance(place, HubFile) else str(path), path, sha256, kind, tuple(notes))


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file; float16 and bfloat16 as float32.

    Raises:
      RunError: the file is damaged or holds a type that is not known here.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):  # checks the header against the file: sizes, types, overlaps
            pass
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise RunError(f"{path} is damaged or no safetensors file ({reason}); fetch it again") from error
    try:
        return _tensors(path)
    except (OSError, ValueError, OverflowError, MemoryError) as error:  # a shape such as [0, 2**40, 2**40]
        raise RunError(f"{path} cannot be read ({' '.join(str(error).split())[:120]}); fetch it again") from error


def _tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file whose header is sound: it says no more bytes than the file has."""
    tensors = {}
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if entry["dtype"] not in _DTYPES:
                raise RunError(f"{path}: {name[:80]} is {entry['dtype']}; save it as float32")
            file.seek(8 + size + entry["data_offsets"][0])
            array = np.fromfile(file, _DTYPES[entry["dtype"]], math.prod(entry["shape"])).reshape(entry["shape"])
            if entry["dtype"] == "BF16":  # the upper half of a float32
                array = (array.astype(np.uint32) << 16).view(np.float32)
            tensors[name] = array.astype(np.float32) if entry["dtype"] == "F16" else array
    return tensors


def _without_prefixes(tensors: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    stripped = []
    while found := [prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)]:
        tensors = {name.removeprefix(found[0]): array for name, array in tensors.items()}
        stripped.append(found[0])
    return tensors, stripped
