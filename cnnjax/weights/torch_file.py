# SPDX-License-Identifier: Apache-2.0
"""PyTorch's files (zip and legacy format), read by PyTorch's own safe loader: nothing in a file is ever run."""

import importlib
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax.errors import RunError

NESTED = ("state_dict", "model_state_dict", "model_state", "model", "net")
"""Where repositories keep the parameters beside epoch, optimizer and the like; the first that is there counts."""


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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes PyTorch raise whatever its parts raise
        raise RunError(_refusal(path, error)) from error
    chosen, where = _state_dict(torch, content, path)
    tensors, left_out = {}, []
    for name, value in chosen.items():
        if isinstance(value, torch.Tensor):
            tensors[str(name)] = _array(torch, value, f"{path}: {name}")
        else:
            left_out.append(str(name))
    notes = [f"taken from the entry {where!r} of {', '.join(map(str, content))}"] if where else []
    if left_out:
        notes.append(f"not tensors, hence left out: {', '.join(left_out)}")
    return TorchFile(tensors, tuple(notes))


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
    inside = [key for key, value in content.items() if holds_tensors(value)]
    for key in (*NESTED, *(inside if len(inside) == 1 else ())):
        if key in inside:
            return content[key], str(key)
    entries = ", ".join(map(str, content)) or "nothing"
    raise RunError(f"{path} holds no dict of tensors in any of {', '.join(NESTED)}; there is {entries}")


def _array(torch: Any, tensor: Any, what: str) -> np.ndarray:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
        raise RunError(f"{what} is sparse, quantized, complex or empty; save it as an ordinary tensor")
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float32)
    return tensor.numpy()
