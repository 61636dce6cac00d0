# SPDX-License-Identifier: Apache-2.0
"""The network that weights come from, run by PyTorch: every module's output by name."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.weights.torch_file import import_torch

FORM = "torchvision:NAME, timm:NAME or path/to/file.py:FUNCTION"


def make_original(spec: str, num_classes: int) -> Any:
    """A `torch.nn.Module` in evaluation mode, with weights of its own: torchvision's or timm's, or a user's.

    A user's function is called without arguments and returns the module; its file is run, so trust it.

    Raises:
      UsageError: no such network.
      RunError: PyTorch or the library is not installed.
    """
    library, colon, name = spec.rpartition(":")
    if not colon or not (library in ("torchvision", "timm") or library.endswith(".py")):
        raise UsageError(f"--original is {spec!r}; write {FORM}")
    torch = import_torch("--original")
    if library.endswith(".py"):
        module = _function(Path(library).expanduser(), name)()
        if not isinstance(module, torch.nn.Module):
            raise UsageError(f"--original: {spec} returns a {type(module).__name__}, not a torch.nn.Module")
        return module.eval()
    try:
        peer = importlib.import_module(library)
    except ImportError as error:
        raise RunError(f"--original={spec} needs {library}: uv run --group peers run.py ...") from error
    known = peer.models.list_models() if library == "torchvision" else peer.list_models()
    if name not in known:
        raise UsageError(f"{unknown(f'network of {library}:', name, known)}; set --original")
    if library == "torchvision":
        return peer.models.get_model(name, weights=None, num_classes=num_classes).eval()
    return peer.create_model(name, pretrained=False, num_classes=num_classes).eval()


def load_original(module: Any, tensors: Mapping[str, np.ndarray], spec: str) -> Any:
    """The module with the file's tensors in it, all of them.

    Raises:
      RunError: they are not the module's.
    """
    torch = import_torch("--original")
    state = {name: torch.from_numpy(np.array(array)) for name, array in tensors.items()}
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise RunError(
            f"--original={spec} does not take the weights: {detail}; name the network they are for"
        ) from error
    return module


def activations(module: Any, image: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every inner module's output by its name, maps as [B,H,W,C], and the network's own.

    Args:
      module: in evaluation mode.
      image: float32 [B,H,W,C].
    """
    torch = import_torch("--original")
    seen: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                # A copy: the ReLU that follows may work in place.
                seen[name] = _channels_last(output.detach().clone().numpy())

        return hook

    handles = [part.register_forward_hook(keep(name)) for name, part in module.named_modules() if name]
    try:
        with torch.no_grad():
            result = module(torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2))))
    except RuntimeError as error:
        raise RunError(f"--original cannot run on images {image.shape[1:]}: {' '.join(str(error).split())}") from error
    finally:
        for handle in handles:
            handle.remove()
    return seen, result.numpy()


def _channels_last(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def _function(path: Path, name: str) -> Any:
    if not path.is_file():
        raise UsageError(f"--original: no file {path}; write {FORM}")
    spec = importlib.util.spec_from_file_location(f"cnnjax_original_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # a .py file always has both
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"--original: {path} does not load: {type(error).__name__}: {error}") from error
    functions = [key for key, value in vars(module).items() if inspect.isroutine(value) or inspect.isclass(value)]
    if name not in functions:
        raise UsageError(unknown(f"function of {path}:", name, functions))
    return getattr(module, name)
