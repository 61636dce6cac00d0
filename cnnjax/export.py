# SPDX-License-Identifier: Apache-2.0
"""A trained network as a folder that runs without this project: its inference as StableHLO, or its weights."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save

from cnnjax.errors import RunError, UsageError, printable, unknown
from cnnjax.experiment import Network
from cnnjax.predict import make_infer
from cnnjax.report.environment import write_atomic, write_json
from cnnjax.types import Array, Outputs, PyTree

PROGRAM, WEIGHTS, MODEL_WEIGHTS = "network.stablehlo", "weights.safetensors", "model.safetensors"
LABELS, DESCRIPTION = "labels.txt", "export.json"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
COMPARED_BATCH_SIZES = (1, 3)
TOLERANCE = 1e-4  # of the largest output; what is seen on a CPU is 0 to 1e-6
# How a picture becomes an array of the network's size: what the program does not do itself.
_PICTURE_KEYS = ("color", "exif_orientation", "image_size", "resize", "crop_from", "interpolation")
_VERSIONS = ("cnnjax", "jax", "jaxlib", "flax", "numpy")


def find_platforms(text: str) -> tuple[str, ...]:
    """The platforms of "cpu,cuda", in their order.

    Raises:
      UsageError: one is not known.
    """
    platforms = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for platform in platforms:
        if platform not in PLATFORMS:
            raise UsageError(unknown("platform", platform, PLATFORMS))
    return platforms


def flatten_weights(network: Network) -> dict[str, np.ndarray]:
    """Parameters and model_state by path, such as "params/output/kernel"."""
    leaves = jax.tree_util.tree_leaves_with_path(_weights(network))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def make_call(network: Network) -> Callable[[Mapping[str, Array], Array], Outputs]:
    """`call(weights, image)`: `weights` as `flatten_weights` gives them, `image` uint8 [B,H,W,C] as stored.

    Outputs as those of `predict.make_infer`.
    """
    infer = make_infer(network.config, network.model, len(network.info.label_names))
    structure = jax.tree.structure(_weights(network))
    names = list(flatten_weights(network))

    def call(weights: Mapping[str, Array], image: Array) -> Outputs:
        tree = jax.tree.unflatten(structure, [weights[name] for name in names])
        return infer(tree["params"], tree["model_state"], image)

    return call


def export_stablehlo(network: Network, folder: Path, platforms: Sequence[str]) -> dict[int, float] | None:
    """Writes the network's inference, its weights, its labels and what they are into `folder`, and tries them.

    Files: `network.stablehlo` (jax.export's format: StableHLO for all `platforms`, of any batch size),
    `weights.safetensors` beside it, which the program takes as its first argument, `labels.txt` of a classifier, and
    `export.json`. The weights are no part of the program: constants of hundreds of MiB make it slow to compile.

    Args:
      network: what `load_network` gives.
      folder: is there and empty.
      platforms: of PLATFORMS.

    Returns:
      By batch size, the largest difference of any output between the files, read again, and the live network on
      random pictures; None where no platform is that of this machine.

    Raises:
      RunError: the network does not take a batch of any size, a file cannot be written, or the outputs differ.
    """
    call, weights = make_call(network), flatten_weights(network)
    (batch,) = jax.export.symbolic_shape("batch")
    image = jax.ShapeDtypeStruct((batch, *network.info.image_shape), jnp.uint8)
    shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in weights.items()}
    try:
        exported = jax.export.export(jax.jit(call), platforms=tuple(platforms))(shapes, image)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        name = network.config.model.name
        raise RunError(
            f"{name} cannot be exported for a batch of any size: {type(error).__name__}: {reason}"
        ) from error
    write_atomic(folder / PROGRAM, bytes(exported.serialize()))
    write_atomic(folder / WEIGHTS, save(weights))
    files = {"format": "stablehlo", "program": PROGRAM, "weights": WEIGHTS, "platforms": list(platforms)}
    describe(network, folder, {**files, "outputs": _describe_outputs(exported)})
    return compare(network, folder) if jax.export.default_export_platform() in platforms else None


def export_safetensors(network: Network, folder: Path, names: str) -> None:
    """Writes `model.safetensors` under the names of a PyTorch code base, labels and `export.json` into `folder`."""
    from cnnjax import weights

    path = folder / MODEL_WEIGHTS
    weights.export_safetensors(
        path,
        model_name=network.config.model.name,
        params=network.params,
        model_state=network.model_state,
        names=names,
    )
    describe(network, folder, {"format": "safetensors", "weights": MODEL_WEIGHTS})


def describe(network: Network, folder: Path, what: dict[str, Any]) -> None:
    """Writes `export.json`, and `labels.txt` with a line for each class where the network has classes."""
    config, info = network.config, network.info
    infer = make_infer(config, network.model, len(info.label_names))
    image = jax.ShapeDtypeStruct((1, *info.image_shape), jnp.uint8)
    labels = list(info.label_names)
    if "logits" in jax.eval_shape(infer, network.params, network.model_state, image):
        write_atomic(folder / LABELS, "".join(f"{printable(label)}\n" for label in labels).encode())
        what = {**what, "label_names": labels}
    description = {
        **what,
        "input": {"dtype": "uint8", "shape": ["batch", *info.image_shape], "axes": "batch, height, width, channels"},
        "normalisation": {"divided_by": 255, "mean": config.data.mean, "std": config.data.std},
        "picture": {key: config.data[key] for key in _PICTURE_KEYS},
        "model": json.loads(config.to_json())["model"],
        "dataset": info.name,
        "step": network.step,
        "versions": {name: metadata.version(name) for name in _VERSIONS},
    }
    write_json(folder / DESCRIPTION, description)


def compare(network: Network, folder: Path) -> dict[int, float]:
    """Reads the program and its weights again and runs them beside the live network.

    Raises:
      RunError: an output differs by more than TOLERANCE of the largest, or is not finite.
    """
    program = jax.export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    weights = load_file(folder / WEIGHTS)
    infer = jax.jit(make_infer(network.config, network.model, len(network.info.label_names)))
    differences = {}
    for batch_size in COMPARED_BATCH_SIZES:
        shape = (batch_size, *network.info.image_shape)
        image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        live, read = infer(network.params, network.model_state, image), program.call(weights, image)
        worst = 0.0
        for name, value in live.items():
            difference = float(np.max(np.abs(np.asarray(value) - np.asarray(read[name]))))
            worst = max(worst, difference)
            if not difference <= TOLERANCE * max(1.0, float(np.max(np.abs(np.asarray(value))))):
                raise RunError(f"the exported network's {name} differ from the live ones by {difference:.3g}")
        differences[batch_size] = worst
    return differences


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `path` when the block ends well, and is removed when it does not.

    Raises:
      UsageError: there is something at `path` already.
      RunError: the folder cannot be made.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UsageError(f"{path} exists already; give another --out, or remove it first")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {path}: {error.strerror}; choose another --out") from error
    try:
        yield temporary
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _weights(network: Network) -> PyTree:
    return {"params": network.params, "model_state": network.model_state}


def _describe_outputs(exported: jax.export.Exported) -> dict[str, dict[str, Any]]:
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return {name: {"dtype": a.dtype.name, "shape": ["batch", *a.shape[1:]]} for name, a in outputs.items()}
