# SPDX-License-Identifier: Apache-2.0
"""Predictions for pictures from files, prepared as the network's training set was."""

import glob
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from cnnjax.data.folder import EXTENSIONS
from cnnjax.data.images import picture_to_shape, read_picture
from cnnjax.errors import RunError
from cnnjax.experiment import Network
from cnnjax.preprocess import make_prepare
from cnnjax.types import Array, Batch

Predict = Callable[[np.ndarray], np.ndarray]


def picture_files(place: str) -> list[Path]:
    """The files that a file name, a folder (searched to its depth) or a glob stands for, sorted.

    Raises:
      RunError: there is no such file, or no picture in the folder or under the glob.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file()]
    else:
        found = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]  # noqa: PTH207
    if not found:
        raise RunError(f"no picture at {place}: give a file, a folder with pictures in it, or a quoted glob")
    return sorted(found)


def load_pictures(files: list[Path], network: Network) -> tuple[np.ndarray, dict[Path, str]]:
    """uint8 [n,H,W,C] of the files that can be read, in order, and what is wrong with each of the others."""
    images, unreadable = [], {}
    for file in files:
        try:
            images.append(picture_to_shape(read_picture(file), network.config.data, network.info.image_shape))
        except (OSError, ValueError) as error:
            unreadable[file] = " ".join(str(error).split())
    return np.array(images, np.uint8).reshape(-1, *network.info.image_shape), unreadable


def make_predict(network: Network, batch_size: int) -> Predict:
    """`predict(image)`: class probabilities float32 [n,K] of uint8 images [n,H,W,C], n at most `batch_size`.

    Raises (the returned function):
      RunError: the network's output is not finite.
    """
    _, prepare = make_prepare(network.config.data, network.config.augment, len(network.info.label_names))

    @jax.jit
    def probabilities(image: Array) -> Array:
        rows = np.zeros(len(image), np.int32)
        batch = prepare(jax.random.key(0), Batch(image=image, label=rows, mask=rows))  # pyright: ignore
        outputs, _ = network.model.apply(network.params, network.model_state, batch["image"], train=False)
        return jax.nn.softmax(outputs["logits"])

    def predict(image: np.ndarray) -> np.ndarray:
        padding = np.zeros((batch_size - len(image), *image.shape[1:]), np.uint8)  # one shape: compiled once
        result = np.asarray(probabilities(np.concatenate([image, padding])))[: len(image)]
        if not np.isfinite(result).all():
            raise RunError("the network's output is not finite; its parameters are damaged or it diverged in training")
        return result

    return predict
