# SPDX-License-Identifier: Apache-2.0
"""The networks as a user of PyTorch writes them. Imported only where PyTorch is installed."""

import importlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from cnnjax.bench import chains
from cnnjax.bench.chains import CHAINS, Chain, ImageShape
from cnnjax.models.resnet import BASIC_DEPTHS, BOTTLENECK_DEPTHS, BOTTLENECKS

torch: Any = importlib.import_module("torch")
nn: Any = torch.nn
Module = Any  # torch.nn.Module, from an optional package


class _ScaledTanh(nn.Module):
    def forward(self, x: Any) -> Any:
        return 1.7159 * torch.tanh(2 / 3 * x)


def _activation(kind: str) -> Module:
    return {"relu": lambda: nn.ReLU(inplace=True), "tanh": nn.Tanh, "scaled_tanh": _ScaledTanh}[kind]()


def _sequential(layers: Chain, image_shape: ImageShape) -> Module:
    """The layers, each told its number of inputs by what lies before it."""
    modules: OrderedDict[str, Module] = OrderedDict()
    height, width, channels = image_shape
    for i, layer in enumerate(layers):
        name = getattr(layer, "name", f"layer{i}")
        match layer:
            case chains.Conv(_, features, side, stride, padding, groups):
                low, high = padding
                if low != high:
                    modules[f"{name}_pad"] = nn.ZeroPad2d((low, high, low, high))
                inside = low if low == high else 0
                modules[name] = nn.Conv2d(channels, features, side, stride, inside, groups=groups)
                height, width = ((size + low + high - side) // stride + 1 for size in (height, width))
                channels = features
            case chains.Norm():
                modules[name] = nn.BatchNorm2d(channels)
            case chains.ResponseNorm():
                modules[name] = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
            case chains.Activation(kind):
                modules[name] = _activation(kind)
            case chains.Pool(kind, side, stride):
                modules[name] = (nn.MaxPool2d if kind == "max" else nn.AvgPool2d)(side, stride)
                height, width = ((size - side) // stride + 1 for size in (height, width))
            case chains.Dropout(rate):
                modules[name] = nn.Dropout(rate)
            case chains.Flatten():
                modules[name] = nn.Flatten()
                height, width, channels = 1, 1, height * width * channels
            case chains.Dense(_, features):
                modules[name] = nn.Linear(channels, features)
                channels = features
    return nn.Sequential(modules)


def _chain(name: str) -> Callable[..., Module]:
    return lambda image_shape, **arguments: _sequential(CHAINS[name](image_shape, **arguments), image_shape)


class _Norm(nn.Sequential):
    """A convolution with its padding, then BatchNorm unless it is left out."""

    def __init__(self, inputs: int, size: int, features: int, stride: int, batch_norm: bool):
        conv = nn.Conv2d(inputs, features, size, stride, size // 2, bias=not batch_norm)
        super().__init__(conv, *([nn.BatchNorm2d(features)] if batch_norm else []))


class _PadShortcut(nn.Module):
    """Shortcut A: every other pixel, zeros for the channels that are missing."""

    def __init__(self, stride: int, missing: int):
        super().__init__()
        self.stride, self.sides = stride, (missing // 2, missing - missing // 2)

    def forward(self, x: Any) -> Any:
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.sides))


class _Block(nn.Module):
    def __init__(self, inputs: int, convs: Sequence[tuple[int, int, int]], shortcut: str | None, batch_norm: bool):
        super().__init__()
        layers, before, stride = [], inputs, max(stride for _, _, stride in convs)
        for size, features, step in convs:
            layers += [_Norm(before, size, features, step, batch_norm), nn.ReLU(inplace=True)]
            before = features
        self.branch, self.relu = nn.Sequential(*layers[:-1]), nn.ReLU(inplace=True)
        changes = before != inputs or stride > 1
        self.skips, self.shortcut = shortcut is not None, nn.Identity()
        if shortcut == "C" or (shortcut == "B" and changes):
            self.shortcut = _Norm(inputs, 1, before, stride, batch_norm)
        elif shortcut == "A" and changes:
            self.shortcut = _PadShortcut(stride, before - inputs)

    def forward(self, x: Any) -> Any:
        y = self.branch(x)
        return self.relu(y + self.shortcut(x) if self.skips else y)


def _resnet(
    stem: Sequence[Module], blocks: Sequence[Any], channels: int, num_classes: int, shortcut: str | None, norm: bool
) -> Module:
    layers = list(stem)
    for convs in blocks:
        layers.append(_Block(channels, convs, shortcut, norm))
        channels = convs[-1][1]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


def resnet_cifar(
    image_shape: ImageShape,
    *,
    num_classes: int,
    depth: int = 20,
    shortcut: str = "A",
    skip: bool = True,
    batch_norm: bool = True,
) -> Module:
    """The residual network for CIFAR-10."""
    stem = [_Norm(image_shape[2], 3, 16, 1, batch_norm), nn.ReLU(inplace=True)]
    blocks = [
        ((3, 16 * 2**s, 2 if s and not b else 1), (3, 16 * 2**s, 1)) for s in range(3) for b in range((depth - 2) // 6)
    ]
    return _resnet(stem, blocks, 16, num_classes, shortcut if skip else None, batch_norm)


def resnet(
    image_shape: ImageShape,
    *,
    num_classes: int,
    depth: int = 50,
    version: str = "v1.5",
    shortcut: str = "B",
    skip: bool = True,
) -> Module:
    """The residual network for ImageNet."""
    stem = [_Norm(image_shape[2], 7, 64, 2, True), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    blocks = []
    for s, count in enumerate((BASIC_DEPTHS | BOTTLENECK_DEPTHS)[depth]):
        for b in range(count):
            width, stride = 64 * 2**s, 2 if s and not b else 1
            basic = ((3, width, stride), (3, width, 1))
            blocks.append(basic if depth in BASIC_DEPTHS else BOTTLENECKS[version](width, stride))
    return _resnet(stem, blocks, 64, num_classes, shortcut if skip else None, True)


def autoencoder(
    image_shape: ImageShape,
    *,
    latent: int = 32,
    widths: tuple[int, ...] = (32, 64, 128),
    decoder: str = "resize",
    activation: str = "sigmoid",
) -> Module:
    """The autoencoder, its decoder enlarging by nn.Upsample or nn.PixelShuffle."""
    height, width, channels = image_shape
    layers, before = [], channels
    for features in widths:
        layers += [nn.Conv2d(before, features, 3, 2, 1), nn.ReLU(inplace=True)]
        before = features
    small = (before, height >> len(widths), width >> len(widths))
    size = small[0] * small[1] * small[2]
    layers += [nn.Flatten(), nn.Linear(size, latent), nn.Linear(latent, size), nn.ReLU(inplace=True)]
    layers.append(nn.Unflatten(1, small))
    for features in (*reversed(widths[:-1]), channels):
        if decoder == "resize":
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, features, 3, padding=1)]
        else:
            layers += [nn.Conv2d(before, 4 * features, 3, padding=1), nn.PixelShuffle(2)]
        layers.append(nn.ReLU(inplace=True))
        before = features
    return nn.Sequential(*layers[:-1], *([nn.Sigmoid()] if activation == "sigmoid" else []))


NETWORKS: dict[str, Callable[..., Module]] = {
    **{name: _chain(name) for name in CHAINS},
    "resnet_cifar": resnet_cifar,
    "resnet": resnet,
    "autoencoder": autoencoder,
}
