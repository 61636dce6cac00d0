# SPDX-License-Identifier: Apache-2.0
"""PyTorch's files (zip and legacy format), read by PyTorch's own safe loader: nothing in a file is ever run."""

import importlib
import itertools
import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax.errors import RunError

NESTED = ("state_dict", "model_state_dict", "model_state", "model", "net")
"""Where repositories keep the parameters beside epoch, optimizer and the like; the first that is there counts."""


_SHOWN = 20  # keys that a message lists


class TorchFile(NamedTuple):
    """What is in a file of PyTorch's."""

    tensors: dict[str, np.ndarray]
    notes: tuple[str, ...]  # sentences for the user: what was chosen and what was left out


def import_torch(what: str) -> Any:
    """PyTorch, which only the dependency group `peers` brings.

    Raises:
      RunError: it is not installed.
    """
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise RunError(f"{what} needs PyTorch: uv run --group peers run.py import-weights ...") from error


def read_torch(path: Path) -> TorchFile:
    """The tensors of a file that `torch.save` wrote, half precision as float32.

    Raises:
      RunError: PyTorch is not installed, or the file is damaged, holds no tensors, or more than tensors and plain
        values (which could run code, and is refused).
    """
    torch = import_torch(f"reading {path}, a PyTorch file,")
    _check_size(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes PyTorch raise whatever its parts raise
        raise RunError(_refusal(path, error)) from error
    chosen, where = _state_dict(torch, content, path)
    tensors, left_out = {}, []
    for name, value in chosen.items():
        if isinstance(name, str) and isinstance(value, torch.Tensor):
            tensors[name] = _array(torch, value, f"{path}: {name[:80]}")
        else:
            left_out.append(name)
    notes = [f"taken from the entry {where!r} of {_listed(content)}"] if where else []
    if left_out:
        notes.append(f"not tensors, hence left out: {_listed(left_out)}")
    return TorchFile(tensors, tuple(notes))


def _check_size(path: Path) -> None:
    """Refuses a zip that unpacks to more than it holds: PyTorch writes its own unpacked, so it is none of PyTorch's."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # the legacy format, or damaged, which PyTorch tells
    if unpacked > path.stat().st_size:
        raise RunError(
            f"{path} unpacks to {unpacked:,} bytes; refused: save it anew with torch.save, or as safetensors"
        )


def _refusal(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    named = re.search(r"GLOBAL ([\w.]+)", text) or re.search(r"class ([\w.]+)", text)
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        what = f"code or objects ({named[1]})" if named else "something else, or is damaged"
        return f"{path} does not hold tensors and plain values alone, but {what}; refused, nothing in it was run"
    return f"{path} is damaged or no file of weights ({type(error).__name__}: {text[:120]}); fetch it again"


def _state_dict(torch: Any, content: Any, path: Path) -> tuple[Mapping[Any, Any], str]:
    """The dict that holds the tensors, and the entry it is in ("" for the whole)."""

    def holds_tensors(value: Any) -> bool:
        return isinstance(value, Mapping) and any(isinstance(item, torch.Tensor) for item in value.values())

    if holds_tensors(content):
        return content, ""
    if not isinstance(content, Mapping):
        raise RunError(f"{path} holds a {type(content).__name__}, not tensors by name; save model.state_dict()")
    inside = [key for key, value in content.items() if isinstance(key, str) and holds_tensors(value)]
    for key in (*NESTED, *(inside if len(inside) == 1 else ())):
        if key in inside:
            return content[key], str(key)
    entries = _listed(content) or "nothing"
    raise RunError(f"{path} holds no dict of tensors in any of {', '.join(NESTED)}; there is {entries}")


def _listed(keys: Collection[Any]) -> str:
    """Some of the keys of a dict; those that are no text by type alone: printing a nested one could take for ever."""
    shown = [key[:60] if isinstance(key, str) else f"<{type(key).__name__}>" for key in itertools.islice(keys, _SHOWN)]
    return ", ".join([*shown, *(["..."] if len(keys) > _SHOWN else [])])


def _array(torch: Any, tensor: Any, what: str) -> np.ndarray:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
        raise RunError(f"{what} is sparse, quantized, complex or empty; save it as an ordinary tensor")
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():  # a few numbers shown as terabytes
        raise RunError(f"{what} repeats its numbers; save it as an ordinary tensor (contiguous)")
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float32)
    return tensor.numpy()
