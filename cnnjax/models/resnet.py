# SPDX-License-Identifier: Apache-2.0
"""Residual networks (He, Zhang, Ren, Sun 2015, arXiv:1512.03385) and their plain twins without skips.

`resnet_cifar`: section 4.2, depth 6n + 2. Parameters with 10 classes, shortcut A / B, and multiply-adds of A at 32x32:
20: 269,722 / 272,474, 40.55 M; 32: 464,154 / 466,906, 68.86 M; 44: 658,586 / 661,338, 97.17 M;
56: 853,018 / 855,770, 125.49 M; 110: 1,727,962 / 1,730,714, 252.89 M.
`resnet`: table 1. Parameters with 1,000 classes and multiply-adds at 224x224, v1 / v1.5:
18: 11,689,512, 1.814 G; 34: 21,797,672, 3.664 G; 50: 25,557,032, 3.858 / 4.089 G; 101: 44,549,160, 7.570 / 7.801 G;
152: 60,192,808, 11.282 / 11.514 G.

Initialisation: He et al. 2015 (arXiv:1502.01852), normal (not truncated), variance 2 / fan_out for convolutions as in
the authors' Torch code and torchvision, 2 / fan_in for the dense layer (a fan_out of 10 classes would start it with
logits of many units); biases 0.
Deviations: none known. The running averages of BatchNorm keep 0.9 a step; the papers do not say.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from cnnjax.errors import UsageError, unknown
from cnnjax.layers import BatchNorm, Conv, MaxPool, global_avg_pool2d, relu_of_sum
from cnnjax.layers.scan import run_name, scan_blocks
from cnnjax.models.adapter import from_linen
from cnnjax.types import Array, Model, Outputs

Convs = tuple[tuple[int, int, int], ...]
"""The convolutions of a block: (kernel size, features, stride) each."""


def _basic(width: int, stride: int) -> Convs:
    return (3, width, stride), (3, width, 1)


def _bottleneck_v1(width: int, stride: int) -> Convs:
    return (1, width, stride), (3, width, 1), (1, 4 * width, 1)


def _bottleneck_v1_5(width: int, stride: int) -> Convs:
    return (1, width, 1), (3, width, stride), (1, 4 * width, 1)


BOTTLENECKS = {"v1": _bottleneck_v1, "v1.5": _bottleneck_v1_5}
SHORTCUTS = ("A", "B", "C")  # A: identity and zeros | B: a projection where the shape changes | C: always a projection

BASIC_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # table 1: blocks of each stage
BOTTLENECK_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class _Stem(NamedTuple):
    """The first convolution, and whether a 3x3 max pooling of stride 2 follows."""

    kernel_size: int
    stride: int
    pool: bool


class _Block(nn.Module):
    """Convolutions with BatchNorm, plus the input where there is a shortcut, then ReLU."""

    convs: Callable[[int, int], Convs]
    shortcut: str | None  # A | B | C; None: a plain block
    batch_norm: bool
    zero_init_residual: bool
    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        y, convs = x, self.convs(self.width, self.stride)
        for i, (size, features, stride) in enumerate(convs, start=1):
            y = _conv(y, size, features, stride, f"conv{i}", use_bias=not self.batch_norm)
            if self.batch_norm:
                zeros = self.zero_init_residual and i == len(convs)
                scale = nn.initializers.zeros if zeros else nn.initializers.ones
                y = BatchNorm(scale_init=scale, name=f"bn{i}")(y, train=train)
            if i < len(convs):
                y = nn.relu(y)
        if self.shortcut is not None:
            return relu_of_sum(y + self._carry(x, y.shape[-1], train=train))
        return nn.relu(y)

    def _carry(self, x: Array, features: int, *, train: bool) -> Array:
        """The input as it enters the sum: [B,H,W,C] to [B,H/stride,W/stride,features], rounded up."""
        missing = features - x.shape[-1]
        if self.shortcut == "C" or (self.shortcut == "B" and (missing or self.stride > 1)):
            x = _conv(x, 1, features, self.stride, "shortcut_conv", use_bias=not self.batch_norm)
            return BatchNorm(name="shortcut_bn")(x, train=train) if self.batch_norm else x
        if not missing and self.stride == 1:
            return x
        x = x[:, :: self.stride, :: self.stride]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


class _Stage(nn.Module):
    """Blocks in a row, the first of them with the stride."""

    block: Callable[..., _Block]
    num_blocks: int
    width: int
    stride: int
    scan: bool

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        x = self.block(width=self.width, stride=self.stride, name="block1")(x, train=train)
        last = self.num_blocks
        if self.scan and last > 2:  # all but the first, which is the one that changes the shape
            run = self.block(width=self.width, stride=1, name=run_name("block", 2, last))
            return scan_blocks(run, x, length=last - 1, train=train)
        for b in range(2, last + 1):
            x = self.block(width=self.width, stride=1, name=f"block{b}")(x, train=train)
        return x


class _ResNet(nn.Module):
    num_classes: int
    stem: _Stem
    block: Callable[..., _Block]  # takes width, stride and name
    num_blocks: Sequence[int]  # of each stage; width doubles and the map halves from one stage to the next
    width: int
    batch_norm: bool
    scan: bool

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        outputs: Outputs = {}
        size, stride, pool = self.stem
        x = _conv(image, size, self.width, stride, "stem_conv", use_bias=not self.batch_norm)
        if self.batch_norm:
            x = BatchNorm(name="stem_bn")(x, train=train)
        x = outputs["stem"] = nn.relu(x)  # [B,H/stride,W/stride,width], rounded up, as all halves below
        if pool:
            x = MaxPool(3, 2, padding=1, name="stem_pool")(x)
        for s, num_blocks in enumerate(self.num_blocks, start=1):
            width = self.width * 2 ** (s - 1)
            stage = _Stage(self.block, num_blocks, width, 1 if s == 1 else 2, self.scan, name=f"stage{s}")
            x = outputs[f"stage{s}"] = stage(x, train=train)  # from stage 2 on half of the map, twice the channels
        x = outputs["features"] = global_avg_pool2d(x)  # [B,C]
        init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        outputs["logits"] = nn.Dense(self.num_classes, kernel_init=init, name="output")(x)
        return outputs


def _conv(x: Array, size: int, features: int, stride: int, name: str, *, use_bias: bool) -> Array:
    init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
    conv = Conv(features, size, stride=stride, padding=size // 2, use_bias=use_bias, kernel_init=init, name=name)
    return conv(x)


def resnet_cifar(
    *,
    num_classes: int,
    depth: int = 20,
    shortcut: str = "A",
    skip: bool = True,
    batch_norm: bool = True,
    scan: bool = False,
) -> Model:
    """The residual network of section 4.2: a 3x3 stem and three stages of n blocks with 16, 32 and 64 channels.

    Takes images [B,H,W,C] of any size; at 32x32 the stages are 32x32, 16x16 and 8x8.

    Args:
      num_classes: K.
      depth: 6n + 2 layers; the paper's are 20, 32, 44, 56 and 110.
      shortcut: where the shape changes, 'A' takes every other pixel and pads the channels with zeros, half of them
        on each side; 'B' projects by a 1x1 convolution; 'C' projects in every block.
      skip: False gives the plain twin, with the parameters of shortcut A; `shortcut` then does nothing.
      batch_norm: False leaves the normalisation out and gives the convolutions biases.
      scan: the blocks of a stage after its first as one loop (`cnnjax.layers.scan`): a program that does not grow
        with depth, compiled in a third of the time for ResNet-110, and half the memory. On a CPU its steps take a third
        longer (docs/step.md); hence not the default.

    Raises:
      UsageError: another depth or shortcut.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise UsageError(f"config.model.depth is {depth}, but must be 6n + 2: 8, 14, 20, 32, 44, 56, 110, ...")
    block = partial(_Block, _basic, _checked_shortcut(shortcut, skip=skip), batch_norm, False)
    return from_linen(_ResNet(num_classes, _Stem(3, 1, pool=False), block, (blocks,) * 3, 16, batch_norm, scan))


def resnet(
    *,
    num_classes: int,
    depth: int = 50,
    version: str = "v1.5",
    shortcut: str = "B",
    skip: bool = True,
    zero_init_residual: bool = False,
    scan: bool = False,
) -> Model:
    """The residual network of table 1: a 7x7 stem of stride 2, 3x3 max pooling, four stages.

    Takes images [B,H,W,C] of any size; at 224x224 the stages are 56x56, 28x28, 14x14 and 7x7.

    Args:
      num_classes: K.
      depth: 18 and 34 (two 3x3 convolutions a block), 50, 101 and 152 (bottlenecks).
      version: of the bottleneck: 'v1', the paper's, strides in the first 1x1, 'v1.5' in the 3x3; 18 and 34 have one.
      shortcut: as for `resnet_cifar`; table 3 has A, B and C at depth 34, and B above it.
      skip: False gives the plain twin, of depth 18 or 34.
      zero_init_residual: start the last BatchNorm of each block at scale 0 (Goyal et al. 2017, arXiv:1706.02677).
      scan: as for `resnet_cifar`.

    Raises:
      UsageError: another depth, version or shortcut; a plain twin of bottlenecks, or one that starts at 0.
    """
    depths = BASIC_DEPTHS | BOTTLENECK_DEPTHS
    if depth not in depths:
        raise UsageError(f"config.model.depth is {depth}, but must be one of {', '.join(map(str, depths))}")
    if version not in BOTTLENECKS:
        raise UsageError(unknown("value of config.model.version:", version, BOTTLENECKS))
    if not skip and depth not in BASIC_DEPTHS:
        raise UsageError(f"config.model.skip = False is for depth 18 and 34, not {depth}: the paper has no plain twin")
    if not skip and zero_init_residual:
        raise UsageError("config.model.zero_init_residual needs config.model.skip: a plain block would put out zeros")
    convs = _basic if depth in BASIC_DEPTHS else BOTTLENECKS[version]
    block = partial(_Block, convs, _checked_shortcut(shortcut, skip=skip), True, zero_init_residual)
    return from_linen(_ResNet(num_classes, _Stem(7, 2, pool=True), block, depths[depth], 64, True, scan))


def _checked_shortcut(shortcut: str, *, skip: bool) -> str | None:
    if shortcut not in SHORTCUTS:
        raise UsageError(unknown("value of config.model.shortcut:", shortcut, SHORTCUTS))
    return shortcut if skip else None
