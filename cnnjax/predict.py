# SPDX-License-Identifier: Apache-2.0
"""What a trained network says of pictures, from files too, prepared as the network's training set was."""

import glob
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.folder import EXTENSIONS
from cnnjax.data.images import picture_to_shape, read_picture
from cnnjax.errors import RunError, printable
from cnnjax.experiment import Network
from cnnjax.preprocess import make_prepare
from cnnjax.types import Array, Batch, Config, Model, ModelState, Outputs, Params

Predict = Callable[[np.ndarray], np.ndarray]
Infer = Callable[[Params, ModelState, Array], Outputs]


def picture_files(place: str) -> list[Path]:
    """The files that a file name, a folder (searched to its depth) or a glob stands for, sorted.

    Raises:
      RunError: there is no such file, no picture in the folder or under the glob, or a link out of the folder.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file()]
        root = os.path.realpath(path)
        for file in found:
            if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(root):
                raise RunError(f"{printable(str(file))} is a link out of the folder; give the file it leads to by name")
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


def make_infer(config: Config, model: Model, num_classes: int) -> Infer:
    """`infer(params, model_state, image)`: from stored pixels, uint8 [B,H,W,C], to what the network says of them.

    Pure; the preparation (division by 255, normalisation) is part of it. A classifier gives `logits` and
    `probabilities` [B,K] float32, an autoencoder `recon` [B,H,W,C], in 0..1, and `latent`, where the network has them.
    """
    _, prepare = make_prepare(config.data, config.augment, num_classes)

    def infer(params: Params, model_state: ModelState, image: Array) -> Outputs:
        rows = jnp.zeros(image.shape[:1], jnp.int32)
        batch = prepare(jax.random.key(0), Batch(image=image, label=rows, mask=rows))
        outputs, _ = model.apply(params, model_state, batch["image"], train=False)
        heads = {name: outputs[name] for name in ("logits", "recon", "latent") if name in outputs}
        return {**heads, "probabilities": jax.nn.softmax(heads["logits"])} if "logits" in heads else heads

    return infer


def make_predict(network: Network, batch_size: int) -> Predict:
    """`predict(image)`: class probabilities float32 [n,K] of uint8 images [n,H,W,C], n at most `batch_size`.

    Raises:
      RunError: the network has no classes. The returned function: the network's output is not finite.
    """
    infer = make_infer(network.config, network.model, len(network.info.label_names))
    images = jax.ShapeDtypeStruct((batch_size, *network.info.image_shape), jnp.uint8)
    if "probabilities" not in jax.eval_shape(infer, network.params, network.model_state, images):
        raise RunError(f"{network.config.model.name} reconstructs pictures and has no classes, so it predicts none")
    compiled = jax.jit(infer)

    def predict(image: np.ndarray) -> np.ndarray:
        padding = np.zeros((batch_size - len(image), *image.shape[1:]), np.uint8)  # one shape: compiled once
        outputs = compiled(network.params, network.model_state, np.concatenate([image, padding]))
        result = np.asarray(outputs["probabilities"])[: len(image)]
        if not np.isfinite(result).all():
            raise RunError("the network's output is not finite; its parameters are damaged or it diverged in training")
        return result

    return predict
