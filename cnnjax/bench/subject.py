# SPDX-License-Identifier: Apache-2.0
"""What is timed: the network of a config and pictures for it, made up where the data are not at hand."""

from typing import NamedTuple

import numpy as np

from cnnjax.data import load_dataset
from cnnjax.data.published import SETS
from cnnjax.errors import UsageError
from cnnjax.experiment import build_model
from cnnjax.inspect.summary import summarize
from cnnjax.models.check import check_named
from cnnjax.types import Config, Dataset, Model, Split
from cnnjax.weights.data import ImageShape, known_data, local_source, parse_shape

# Stored sizes of sets that a config may name without giving a size.
STORED_SHAPES: dict[str, ImageShape] = {
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
}
CLASSES = {name: len(published.label_names) for name, published in SETS.items()} | {"imagenet2012": 1000}
MAX_MADE_UP = 512  # pictures, unless a batch is larger: enough that a gather does not stay in the cache


class Subject(NamedTuple):
    """A network and its data.

    Attributes:
      config: with the batch size that is timed.
      model: computing in `config.train.dtype`.
      dataset: with the split `train`.
      params: of the network.
      macs: multiply-adds of one image, forward.
      data: where the pictures come from, in words.
    """

    config: Config
    model: Model
    dataset: Dataset
    params: int
    macs: int
    data: str

    @property
    def image_shape(self) -> ImageShape:
        """(H, W, C)."""
        height, width, channels = self.dataset.splits["train"].image.shape[1:]
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.dataset.label_names)


def load_subject(
    config: Config,
    *,
    synthetic: bool = False,
    image: str | None = None,
    num_classes: int | None = None,
    examples: int | None = None,
) -> Subject:
    """The network of `config` and its training set, or made-up pictures of the same shape.

    Args:
      config: of any experiment.
      synthetic: make pictures up even where the data are at hand.
      image: `HxWxC` of made-up pictures; None: as the config says.
      num_classes: K of made-up pictures; None: as the data has.
      examples: how many made-up pictures; None: MAX_MADE_UP, or a batch where that is more.

    Raises:
      UsageError: nothing tells the shape or the classes.
    """
    dataset, data = load_pictures(config, synthetic, image, num_classes, examples)
    model = build_model(config, len(dataset.label_names))
    height, width, channels = dataset.splits["train"].image.shape[1:]
    check_named(model, (height, width, channels), len(dataset.label_names), name=config.model.name)
    summary = summarize(model, (height, width, channels), config.model.name)
    return Subject(config, model, dataset, summary.params, summary.macs, data)


def load_pictures(
    config: Config,
    synthetic: bool = False,
    image: str | None = None,
    num_classes: int | None = None,
    examples: int | None = None,
) -> tuple[Dataset, str]:
    """The data of a subject, with the split `train`, and in words where they come from; arguments as `load_subject`."""
    source = local_source(config.data)
    if source is not None and not (synthetic or image or num_classes or examples):
        dataset, data = load_dataset(config.data, ("train",)), config.data.source
    else:
        shape, classes = _shape(config, image), num_classes or _classes(config)
        dataset = made_up(shape, classes, examples or max(MAX_MADE_UP, config.data.batch_size))
        why = "" if source is not None else f", because {config.data.source} is not on this machine"
        data = f"{len(dataset.splits['train'].label)} made-up pictures of {'x'.join(map(str, shape))}{why}"
    return dataset, data


def made_up(image_shape: ImageShape, num_classes: int, num_examples: int) -> Dataset:
    """Pictures of noise; labels go round. Arithmetic takes as long on them as on real ones."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (num_examples, *image_shape), np.uint8)
    label = np.arange(num_examples, dtype=np.int32) % num_classes
    names = tuple(f"class {k}" for k in range(num_classes))
    return Dataset("made up", names, {"train": Split(image, label)})


def _name(config: Config) -> str:
    """The data set's own name: cifar10 of tfds:cifar10:3.0.2."""
    return config.data.source.partition(":")[2].partition(":")[0].partition("/")[0]


def _shape(config: Config, image: str | None) -> ImageShape:
    if image:
        return parse_shape(image)
    name = _name(config)
    if name in STORED_SHAPES and not config.data.image_size and config.data.color == "keep":
        return STORED_SHAPES[name]
    shape = known_data(config.data).image_shapes[0]
    if name in STORED_SHAPES and config.data.color == "keep":
        return (*shape[:2], STORED_SHAPES[name][2])
    return shape


def _classes(config: Config) -> int:
    if config.data.labels:
        return len(config.data.labels)
    source = local_source(config.data)
    classes = CLASSES.get(_name(config)) if source is None else len(source.label_names)
    if not classes:
        raise UsageError(f"the data of {config.data.source} are not here to count their classes; give --num_classes=K")
    return classes
