# SPDX-License-Identifier: Apache-2.0
"""Weights out: a safetensors file under the names of another code base, or our own."""

import json
from pathlib import Path

import numpy as np

from cnnjax.errors import UsageError
from cnnjax.layers.scan import unstack
from cnnjax.report.environment import write_atomic
from cnnjax.types import ModelState, Params
from cnnjax.weights.layout import to_theirs
from cnnjax.weights.names import conventions, get_convention, named_leaves, places


def export_safetensors(
    path: Path, *, model_name: str, params: Params, model_state: ModelState, names: str = ""
) -> None:
    """Writes parameters and running statistics to a safetensors file; `run.py import-weights` reads the same back.

    With names of PyTorch the file is what `load_state_dict(..., strict=True)` takes.

    Args:
      path: the file; replaced whole.
      model_name: the network's name in the config, kept in the file's metadata.
      params: float arrays, runs of scanned blocks stacked or not.
      model_state: as `cnnjax.types.Model`; {} without running statistics.
      names: "torchvision", "timm", "akamaster", ... or "native"; "": the usual one for the network's layers, which is
        "native" for a network that has no like elsewhere.

    Raises:
      UsageError: the network has no such convention, or an array that safetensors cannot hold.
      RunError: the file cannot be written.
    """
    leaves = named_leaves(unstack(params), unstack(model_state))
    names = names or next(iter(conventions(leaves)))
    found = places(leaves, get_convention(leaves, names))
    tensors = {}
    for ours, leaf in leaves.items():
        try:
            array = np.asarray(leaf)
        except TypeError as error:
            raise UsageError(f"{ours} ({leaf.dtype}) cannot be kept in a safetensors file") from error
        tensors[found[ours].name] = to_theirs(found[ours].layout, array)
    write_atomic(path, _encode(tensors, {"format": "pt", "model": model_name, "names": names}))


def _encode(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The file's bytes, always the same for the same weights: the library writes the metadata in random order."""
    from safetensors.numpy import save

    content = save(tensors, metadata=metadata)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start]) | {"__metadata__": metadata}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:8] + text.ljust(start - 8) + content[start:]
