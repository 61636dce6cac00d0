# SPDX-License-Identifier: Apache-2.0
"""What `config.init_from` names: the arrays of a run's checkpoint, of a file of weights, or of one on the Hub."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax.errors import UsageError
from cnnjax.experiment import load_network
from cnnjax.layers.scan import unstack
from cnnjax.remote import is_remote
from cnnjax.remote.places import reading
from cnnjax.transfer.rename import renamed
from cnnjax.types import Config
from cnnjax.weights.names import named_leaves
from cnnjax.weights.read import read_weights

_PARTS = ("params.", "model_state.batch_stats.", "model_state.")


class Source(NamedTuple):
    """Trained arrays.

    Attributes:
      arrays: by name: a run's by our native names, scanned blocks apart; a file's by its own.
      original: the name before `config.init_rename`, of those that it renamed.
      run: they are of a run, hence under native names.
      label_names: the classes of its output; () when they are not known.
      data: `config.data` that it was trained with; None when not known.
      origin: what to write down: where they are from, at which step or with which checksum.
      notes: sentences for the user.
    """

    arrays: dict[str, np.ndarray]
    original: dict[str, str]
    run: bool
    label_names: tuple[str, ...]
    data: Config | None
    origin: dict[str, Any]
    notes: tuple[str, ...]


def read_source(config: Config) -> Source:
    """Reads `config.init_from` and applies `config.init_rename`.

    Raises:
      UsageError: no such run, checkpoint or file, or a rule that does not apply.
      RunError: it cannot be read.
    """
    source = _read(config.init_from)
    parts = {name: next((p for p in _PARTS if source.run and name.startswith(p)), "") for name in source.arrays}
    # A layer's parameters and statistics are renamed by one rule: both go by the path below their part.
    paths = {name: name.removeprefix(parts[name]).replace(".", "/") for name in source.arrays}
    new = renamed(list(dict.fromkeys(paths.values())), config.init_rename)
    changed = {
        name: name if new[path] == path else parts[name] + new[path].replace("/", ".") for name, path in paths.items()
    }
    arrays = {changed[name]: array for name, array in source.arrays.items()}
    return source._replace(arrays=arrays, original={b: a for a, b in changed.items() if a != b})


def _read(spec: str) -> Source:
    folder, _, checkpoint = spec.rpartition("@")
    if is_remote(spec):
        if not folder or "/" in checkpoint:
            folder, checkpoint = spec, "latest"
        with reading(folder, checkpoint) as stage:
            return _of_run(stage, checkpoint, folder)
    if not Path(folder or spec).expanduser().is_dir() or Path(spec).expanduser().is_dir():
        folder, checkpoint = spec, "latest"
    path = Path(folder).expanduser()
    if path.is_dir():
        return _of_run(path, checkpoint, str(path.resolve()))
    try:
        weights = read_weights(spec)
    except UsageError as error:
        raise UsageError(f"config.init_from: {error}, or the folder of a run") from error
    origin = {"source": weights.source, "sha256": weights.sha256, "format": weights.format}
    return Source(weights.tensors, {}, False, (), None, origin, weights.notes)


def _of_run(path: Path, checkpoint: str, name: str) -> Source:
    network = load_network(str(path), checkpoint)
    leaves = named_leaves(*map(unstack, (network.params, network.model_state)))
    origin = {"run": name, "step": network.step, "model": network.config.model.to_dict()}
    arrays = {name: np.asarray(leaf) for name, leaf in leaves.items()}
    return Source(arrays, {}, True, network.info.label_names, network.config.data, origin, ())
