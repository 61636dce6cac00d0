# SPDX-License-Identifier: Apache-2.0
"""What a view looks at: a trained network, the images of a split, and what the user chose of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data import load_dataset
from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.experiment import Network, load_network
from cnnjax.predict import load_pictures, picture_files
from cnnjax.preprocess import make_prepare
from cnnjax.types import Array, Batch, Dataset, Model, ModelState, Params


class Prepare(Protocol):
    """Stored pixels to network input."""

    def __call__(self, image: np.ndarray | Array) -> Array:
        """uint8 [B,H,W,C] -> float32 [B,H,W,C], normalised."""
        ...


class Subject(NamedTuple):
    """A trained network and the images it is shown.

    Attributes:
      name: of the run, for titles.
      model: the network as two pure functions.
      params: its parameters.
      model_state: its running statistics.
      prepare: uint8 [B,H,W,C] -> the network's input.
      mean: [1,1,1,C] and
      std: [1,1,1,C]: pixel in 0..1 = input * std + mean.
      image: uint8 [N,H,W,C], the split looked at.
      label: int32 [N], of the images.
      label_names: K names.
      split: the split's name.
    """

    name: str
    model: Model
    params: Params
    model_state: ModelState
    prepare: Prepare
    mean: np.ndarray
    std: np.ndarray
    image: np.ndarray
    label: np.ndarray
    label_names: tuple[str, ...]
    split: str


class Choice(NamedTuple):
    """What the user chose; a view takes of it what concerns it.

    Attributes:
      image: uint8 [n,H,W,C], the images to look at closely.
      title: n captions, the file or "test[17]: cat".
      label: int32 [n], -1 where the picture is the user's own and no label is known.
      layer: the layer named, or None: the view's own choice.
      unit: the channel named, or None.
      target: the class asked about, or None: the network's own answer for each image.
      num: how many things (neurons, neighbours) to show.
      seed: of what a view draws at random.
    """

    image: np.ndarray
    title: tuple[str, ...]
    label: np.ndarray
    layer: str | None
    unit: int | None
    target: int | None
    num: int
    seed: int


class View(NamedTuple):
    """What a view made.

    Attributes:
      pictures: the PNG files, each with one sentence for its caption.
      numbers: what is behind them, ready for JSON.
      lines: what is worth saying on the terminal.
    """

    pictures: tuple[tuple[Path, str], ...]
    numbers: dict[str, Any]
    lines: tuple[str, ...] = ()


def load_subject(workdir: str | None, checkpoint: str, split: str, overrides: Sequence[str] = ()) -> Subject:
    """The network of a run and one split of its data.

    Raises:
      UsageError, RunError: as `load_network` and `load_dataset` do; the set has no such split, or is another one.
    """
    network = load_network(workdir, checkpoint, overrides)
    config, info = network.config, network.info
    dataset = load_dataset(config.data, (split,))
    if split not in dataset.splits:
        raise RunError(f"{dataset.name} has no {split} split under this config; choose another --split")
    images = dataset.splits[split].image
    if dataset.label_names != info.label_names or images.shape[1:] != info.image_shape:
        raise RunError(f"{dataset.name} is not the set of the run in {workdir}; give it the data it was made for")
    return make_subject(network, Path(workdir or "").expanduser().resolve().name, dataset, split)


def make_subject(network: Network, name: str, dataset: Dataset, split: str) -> Subject:
    """A network, called `name`, and one split of a data set that it was made for."""
    config, info, images = network.config, network.info, dataset.splits[split].image
    _, prepare = make_prepare(config.data, config.augment, len(info.label_names))

    def to_input(image: np.ndarray | Array) -> Array:
        rows = jnp.zeros(len(image), jnp.int32)
        return prepare(jax.random.key(0), Batch(image=jnp.asarray(image), label=rows, mask=rows))["image"]

    channels = info.image_shape[-1]
    mean, std = (
        np.broadcast_to(np.asarray(config.data[key], np.float32), (channels,)).reshape(1, 1, 1, -1)
        for key in ("mean", "std")
    )
    return Subject(
        name,
        network.model,
        network.params,
        network.model_state,
        to_input,
        mean,
        std,
        images,
        dataset.splits[split].label,
        dataset.label_names,
        split,
    )


def choose(
    subject: Subject,
    workdir: str,
    *,
    files: Sequence[str] = (),
    indices: Sequence[int] = (),
    layer: str | None = None,
    unit: int | None = None,
    target: str | None = None,
    num: int = 8,
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> Choice:
    """The images chosen: the user's own files, rows of the split, or by default the first image of each class.

    Raises:
      UsageError: an index, class or number that there is not.
      RunError: a file that is no picture.
    """
    if num < 1:
        raise UsageError(f"--num is {num}, but must be 1 or more")
    if target is not None and target not in subject.label_names:
        raise UsageError(unknown("class (--class)", target, subject.label_names))
    if files:
        found = [path for place in files for path in picture_files(place)]
        image, unreadable = load_pictures(found, load_network(workdir, "latest", overrides))
        if unreadable:
            path, reason = next(iter(unreadable.items()))
            raise RunError(f"cannot read {path}: {reason}")
        title, label = [path.name for path in found], np.full(len(found), -1, np.int32)
    else:
        if any(not 0 <= i < len(subject.label) for i in indices):
            raise UsageError(f"--index counts from 0 to {len(subject.label) - 1} in the {subject.split} split")
        if not indices:
            firsts = np.unique(subject.label, return_index=True)[1]
            indices = [int(i) for i in firsts[:num]]
        image, label = subject.image[list(indices)], subject.label[list(indices)]
        pairs = zip(indices, label, strict=True)
        title = [f"{subject.split}[{i}]: {subject.label_names[y]}" for i, y in pairs]
    which = None if target is None else subject.label_names.index(target)
    return Choice(image, tuple(title), label, layer, unit, which, num, seed)


def parse_indices(text: str) -> list[int]:
    """The flag --index as numbers: "0,17".

    Raises:
      UsageError: it is none.
    """
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise UsageError(f"--index is {text!r}; give rows as whole numbers, --index=0,17") from None


def spread_layers(names: Sequence[str], named: str | None) -> list[str]:
    """The one named, or all; of more than seven, seven spread over the depth, the last one among them.

    Raises:
      UsageError: none is called `named`.
    """
    if named is not None:
        if named not in names:
            raise UsageError(unknown("layer", named, names))
        return [named]
    picks = np.unique(np.linspace(0, len(names) - 1, 7).round().astype(int))
    return [names[int(i)] for i in picks]


def outputs_of(subject: Subject, image: np.ndarray) -> dict[str, Array]:
    """The network's outputs for uint8 images [B,H,W,C], intermediates included."""
    return subject.model.apply(subject.params, subject.model_state, subject.prepare(image), train=False)[0]
