# SPDX-License-Identifier: Apache-2.0
"""The networks as a user of plain Flax writes them: nn.Conv, nn.max_pool, nn.avg_pool, nn.BatchNorm, nn.Dense.

Parameters have the names and shapes of ours, so the same numbers run in both.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnjax.bench import chains
from cnnjax.bench.chains import CHAINS, Chain, ImageShape
from cnnjax.models.adapter import from_linen
from cnnjax.models.resnet import BASIC_DEPTHS, BOTTLENECK_DEPTHS, BOTTLENECKS
from cnnjax.types import Array, Model, Outputs

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "tanh": jnp.tanh,
    "scaled_tanh": lambda x: 1.7159 * jnp.tanh(2 / 3 * x),
}


class _Chain(nn.Module):
    layers: Chain

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        x = image
        for layer in self.layers:
            match layer:
                case chains.Conv(name, features, side, stride, padding, groups):
                    window, strides = (side, side), (stride, stride)
                    x = nn.Conv(features, window, strides, (padding,) * 2, feature_group_count=groups, name=name)(x)
                case chains.Norm(name):
                    x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=name)(x)
                case chains.ResponseNorm():
                    x = _response_norm(x)
                case chains.Activation(kind):
                    x = ACTIVATIONS[kind](x)
                case chains.Pool(kind, side, stride):
                    pool = nn.max_pool if kind == "max" else nn.avg_pool
                    x = pool(x, (side, side), (stride, stride))
                case chains.Dropout(rate):
                    x = nn.Dropout(rate, deterministic=not train)(x)
                case chains.Flatten():
                    x = x.reshape(x.shape[0], -1)
                case chains.Dense(name, features):
                    x = nn.Dense(features, name=name)(x)
        return {"logits": x}


def _response_norm(x: Array) -> Array:
    """Which Flax does not have."""
    squares = jax.lax.reduce_window(jnp.square(x), 0.0, jax.lax.add, (1, 1, 1, 5), (1, 1, 1, 1), "SAME")
    return x / (2 + 1e-4 * squares) ** 0.75


def _chain(name: str) -> Callable[..., Model]:
    def network(image_shape: ImageShape, **arguments: object) -> Model:
        return from_linen(_Chain(tuple(CHAINS[name](image_shape, **arguments))))

    return network


def _conv(x: Array, size: int, features: int, stride: int, name: str, *, use_bias: bool) -> Array:
    sides = ((size // 2, size // 2),) * 2
    return nn.Conv(features, (size, size), (stride, stride), sides, use_bias=use_bias, name=name)(x)


class _Block(nn.Module):
    convs: tuple[tuple[int, int, int], ...]  # (side, features, stride)
    shortcut: str | None
    batch_norm: bool
    stride: int

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        y, bias = x, not self.batch_norm
        for i, (size, features, stride) in enumerate(self.convs, start=1):
            y = _conv(y, size, features, stride, f"conv{i}", use_bias=bias)
            y = norm(name=f"bn{i}")(y) if self.batch_norm else y
            y = nn.relu(y) if i < len(self.convs) else y
        missing = y.shape[-1] - x.shape[-1]
        if self.shortcut is None:
            return nn.relu(y)
        if self.shortcut == "C" or (self.shortcut == "B" and (missing or self.stride > 1)):
            x = _conv(x, 1, y.shape[-1], self.stride, "shortcut_conv", use_bias=bias)
            x = norm(name="shortcut_bn")(x) if self.batch_norm else x
        elif missing or self.stride > 1:
            x = x[:, :: self.stride, :: self.stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))
        return nn.relu(y + x)


class _Stage(nn.Module):
    blocks: Sequence[Callable[..., _Block]]

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        for b, block in enumerate(self.blocks, start=1):
            x = block(name=f"block{b}")(x, train=train)
        return x


class _ResNet(nn.Module):
    num_classes: int
    imagenet: bool  # a 7x7 stem of stride 2 and pooling, else 3x3
    stages: Sequence[Sequence[Callable[..., _Block]]]
    batch_norm: bool

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        size, width, stride = (7, 64, 2) if self.imagenet else (3, 16, 1)
        x = _conv(image, size, width, stride, "stem_conv", use_bias=not self.batch_norm)
        if self.batch_norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="stem_bn")(x)
        x = nn.relu(x)
        sides: Any = ((1, 1), (1, 1))
        x = nn.max_pool(x, (3, 3), (2, 2), sides) if self.imagenet else x
        for s, blocks in enumerate(self.stages, start=1):
            x = _Stage(blocks, name=f"stage{s}")(x, train=train)
        return {"logits": nn.Dense(self.num_classes, name="output")(x.mean(axis=(1, 2)))}


def resnet_cifar(
    image_shape: ImageShape,
    *,
    num_classes: int,
    depth: int = 20,
    shortcut: str = "A",
    skip: bool = True,
    batch_norm: bool = True,
) -> Model:
    """The residual network for CIFAR-10."""
    del image_shape

    def block(s: int, b: int) -> Callable[..., _Block]:
        width, stride = 16 * 2**s, 2 if s and not b else 1
        convs = ((3, width, stride), (3, width, 1))
        return partial(_Block, convs, shortcut if skip else None, batch_norm, stride)

    stages = tuple(tuple(block(s, b) for b in range((depth - 2) // 6)) for s in range(3))
    return from_linen(_ResNet(num_classes, False, stages, batch_norm))


def resnet(
    image_shape: ImageShape,
    *,
    num_classes: int,
    depth: int = 50,
    version: str = "v1.5",
    shortcut: str = "B",
    skip: bool = True,
) -> Model:
    """The residual network for ImageNet."""
    del image_shape

    def block(s: int, b: int) -> Callable[..., _Block]:
        width, stride = 64 * 2**s, 2 if s and not b else 1
        basic = ((3, width, stride), (3, width, 1))
        convs = basic if depth in BASIC_DEPTHS else BOTTLENECKS[version](width, stride)
        return partial(_Block, convs, shortcut if skip else None, True, stride)

    counts = (BASIC_DEPTHS | BOTTLENECK_DEPTHS)[depth]
    stages = tuple(tuple(block(s, b) for b in range(count)) for s, count in enumerate(counts))
    return from_linen(_ResNet(num_classes, True, stages, True))


class _Encoder(nn.Module):
    latent: int
    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, width in enumerate(self.widths, start=1):
            x = nn.relu(_conv(x, 3, width, 2, f"enc{i}", use_bias=True))
        return nn.Dense(self.latent, name="latent")(x.reshape(x.shape[0], -1))


class _Decoder(nn.Module):
    image_shape: ImageShape
    widths: Sequence[int]
    decoder: str
    activation: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        height, width, channels = self.image_shape
        small = (height >> len(self.widths), width >> len(self.widths), self.widths[-1])
        x = nn.relu(nn.Dense(small[0] * small[1] * small[2], name="map")(x)).reshape(-1, *small)
        for i, features in enumerate(reversed(self.widths[:-1]), start=1):
            x = nn.relu(self._enlarged(x, features, f"dec{i}"))
        x = self._enlarged(x, channels, "output")
        return nn.sigmoid(x) if self.activation == "sigmoid" else x

    def _enlarged(self, x: Array, features: int, name: str) -> Array:
        batch, height, width, channels = x.shape
        if self.decoder == "resize":
            x = jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "nearest")
            return _conv(x, 3, features, 1, name, use_bias=True)
        x = _conv(x, 3, 4 * features, 1, name, use_bias=True).reshape(batch, height, width, 2, 2, features)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, features)


class _Autoencoder(nn.Module):
    encoder: Callable[..., _Encoder]
    decoder: Callable[..., _Decoder]

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        del train  # nothing here depends on it
        latent = self.encoder(name="encoder")(image)
        return {"recon": self.decoder(name="decoder")(latent), "latent": latent}


def autoencoder(
    image_shape: ImageShape,
    *,
    latent: int = 32,
    widths: tuple[int, ...] = (32, 64, 128),
    decoder: str = "resize",
    activation: str = "sigmoid",
) -> Model:
    """The autoencoder, its decoder enlarging by `jax.image.resize`."""
    decode = partial(_Decoder, image_shape, widths, decoder, activation)
    return from_linen(_Autoencoder(partial(_Encoder, latent, widths), decode))


NETWORKS: dict[str, Callable[..., Model]] = {
    **{name: _chain(name) for name in CHAINS},
    "resnet_cifar": resnet_cifar,
    "resnet": resnet,
    "autoencoder": autoencoder,
}
