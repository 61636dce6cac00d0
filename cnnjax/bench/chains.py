# SPDX-License-Identifier: Apache-2.0
"""Networks without branches as lists of layers, which each framework's twin builds with its own layers.

Names are those of our networks' layers; numbers are read from the same tables.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cnnjax.models.alexnet import ONE_TOWER, PUBLISHED
from cnnjax.models.vgg import ALIASES, CONFIGURATIONS, WIDTHS

ImageShape = tuple[int, int, int]


class Conv(NamedTuple):
    """A convolution with a square window; `padding` is (before, after), the same along both axes."""

    name: str
    features: int
    side: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    groups: int = 1


class Norm(NamedTuple):
    """Batch normalisation."""

    name: str


class ResponseNorm(NamedTuple):
    """Local response normalisation with AlexNet's constants."""


class Activation(NamedTuple):
    """`kind`: relu, tanh or scaled_tanh (1.7159 tanh(2/3 x))."""

    kind: str = "relu"


class Pool(NamedTuple):
    """`kind`: max or average."""

    kind: str
    side: int
    stride: int


class Dropout(NamedTuple):
    """`rate` is the probability of a zero."""

    rate: float


class Flatten(NamedTuple):
    """[B,H,W,C] to [B,H*W*C]."""


class Dense(NamedTuple):
    """A matrix product and a bias."""

    name: str
    features: int


Layer = Conv | Norm | ResponseNorm | Activation | Pool | Dropout | Flatten | Dense
Chain = Sequence[Layer]


def mlp(
    image_shape: ImageShape, *, num_classes: int, hidden: tuple[int, ...] = (800, 400), dropout_rate: float = 0.0
) -> Chain:
    """The multilayer perceptron."""
    del image_shape
    layers: list[Layer] = [Flatten()]
    for i, width in enumerate(hidden, start=1):
        layers += [Dense(f"hidden{i}", width), Activation(), *_dropout(dropout_rate)]
    return [*layers, Dense("output", num_classes)]


def lenet5(
    image_shape: ImageShape, *, num_classes: int, activation: str = "scaled_tanh", pool: str = "average"
) -> Chain:
    """LeNet-5; its last convolution sees all of a 32x32 image."""
    del image_shape
    act, half = Activation(activation), Pool(pool, 2, 2)
    layers = [Conv("c1", 6, 5), act, half, Conv("c3", 16, 5), act, half, Conv("c5", 120, 5), act]
    return [*layers, Flatten(), Dense("f6", 84), act, Dense("output", num_classes)]


def simple_cnn(
    image_shape: ImageShape,
    *,
    num_classes: int,
    widths: tuple[int, ...] = (32, 64, 128),
    convs_per_stage: int = 1,
    dense: int = 256,
    conv_dropout_rate: float = 0.1,
    dense_dropout_rate: float = 0.5,
) -> Chain:
    """The small plain network."""
    del image_shape
    layers: list[Layer] = []
    for stage, width in enumerate(widths, start=1):
        for i in range(1, convs_per_stage + 1):
            layers += [Conv(f"stage{stage}_conv{i}", width, 3, padding=(1, 1)), Activation()]
        layers += [Pool("max", 2, 2), *_dropout(conv_dropout_rate)]
    layers += [Flatten(), Dense("features", dense), Activation(), *_dropout(dense_dropout_rate)]
    return [*layers, Dense("output", num_classes)]


def alexnet(image_shape: ImageShape, *, num_classes: int, dropout_rate: float = 0.5) -> Chain:
    """AlexNet as published, for 224x224 or 227x227."""
    missing = (11 - image_shape[0]) % 4  # the windows of the first convolution cover the image to its last pixel
    layers: list[Layer] = []
    for i, spec in enumerate(PUBLISHED, start=1):
        padding = (missing // 2, missing - missing // 2) if i == 1 else (spec.side // 2, spec.side // 2)
        layers += [Conv(f"conv{i}", spec.features, spec.side, 4 if i == 1 else 1, padding, spec.groups), Activation()]
        layers += [ResponseNorm()] * (i in (1, 2)) + [Pool("max", 3, 2)] * (i in (1, 2, 5))
    return [*layers, *_hidden(dropout_rate), Dense("output", num_classes)]


def alexnet_one_tower(image_shape: ImageShape, *, num_classes: int, dropout_rate: float = 0.5) -> Chain:
    """AlexNet in one tower, for 224x224."""
    del image_shape
    layers: list[Layer] = []
    for i, spec in enumerate(ONE_TOWER, start=1):
        padding = (2, 2) if i == 1 else (spec.side // 2, spec.side // 2)
        layers += [Conv(f"conv{i}", spec.features, spec.side, 4 if i == 1 else 1, padding), Activation()]
        layers += [Pool("max", 3, 2)] * (i in (1, 2, 5))
    drop = _dropout(dropout_rate)
    layers += [Flatten(), *drop, Dense("fc6", 4096), Activation(), *drop, Dense("fc7", 4096), Activation()]
    return [*layers, Dense("output", num_classes)]


def vgg(
    image_shape: ImageShape,
    *,
    num_classes: int,
    variant: str = "D",
    batch_norm: bool = False,
    dropout_rate: float = 0.5,
) -> Chain:
    """VGG, for 224x224."""
    del image_shape
    variant = ALIASES.get(variant, variant)
    layers: list[Layer] = []
    for stage, (width, sides) in enumerate(zip(WIDTHS, CONFIGURATIONS[variant], strict=True), start=1):
        for i, side in enumerate(sides, start=1):
            layers.append(Conv(f"conv{stage}_{i}", width, side, padding=(side // 2, side // 2)))
            layers += [*[Norm(f"bn{stage}_{i}")] * batch_norm, Activation()]
            layers += [ResponseNorm()] * (variant == "A-LRN" and stage == 1)
        layers.append(Pool("max", 2, 2))
    return [*layers, *_hidden(dropout_rate), Dense("output", num_classes)]


def _hidden(rate: float) -> list[Layer]:
    """The two hidden dense layers of AlexNet and VGG."""
    layers: list[Layer] = [Flatten()]
    for name in ("fc6", "fc7"):
        layers += [Dense(name, 4096), Activation(), *_dropout(rate)]
    return layers


def _dropout(rate: float) -> list[Layer]:
    return [Dropout(rate)] if rate else []


CHAINS: dict[str, Callable[..., Chain]] = {
    "mlp": mlp,
    "lenet5": lenet5,
    "simple_cnn": simple_cnn,
    "alexnet": alexnet,
    "alexnet_one_tower": alexnet_one_tower,
    "vgg": vgg,
}
