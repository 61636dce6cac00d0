# SPDX-License-Identifier: Apache-2.0
"""AlexNet in two forms, for 1,000 classes of 224x224x3 or 227x227x3 images.

`alexnet`: as published (Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional neural
networks", section 3), the filters of conv2, conv4 and conv5 in two groups, as the two GPUs held them. 60,965,224
parameters, 0.724e9 multiply-adds. The paper's 224x224 does not give its 55x55 maps without padding, 227x227 does;
here an input of another size is padded until the windows of conv1 cover it: 224x224 by three pixels, giving 55x55.
Initialisation as in section 5: weights normal with standard deviation 0.01, biases 1 in conv2, conv4, conv5, fc6 and
fc7, else 0.

`alexnet_one_tower`: without groups and normalisation, narrower (Krizhevsky 2014, "One weird trick", arXiv:1404.5997,
as torchvision builds it, which also averages the last maps to 6x6 for inputs other than 224x224). 61,100,840
parameters, 0.714e9 multiply-adds at 224x224. That paper gives no initialisation: He et al. 2015, biases 0.
"""

from typing import Any, NamedTuple

import flax.linen as nn

from cnnjax.layers import Conv, FullyConnected, MaxPool, local_response_norm
from cnnjax.models.adapter import from_linen
from cnnjax.types import Array, Model, Outputs


class _ConvSpec(NamedTuple):
    """A convolution of the table."""

    features: int
    side: int  # of the window
    groups: int = 1
    bias: float = 0.0  # where it starts


PUBLISHED = (
    _ConvSpec(96, 11),
    _ConvSpec(256, 5, groups=2, bias=1.0),
    _ConvSpec(384, 3),
    _ConvSpec(384, 3, groups=2, bias=1.0),
    _ConvSpec(256, 3, groups=2, bias=1.0),
)
ONE_TOWER = (_ConvSpec(64, 11), _ConvSpec(192, 5), _ConvSpec(384, 3), _ConvSpec(256, 3), _ConvSpec(256, 3))


class _AlexNet(nn.Module):
    num_classes: int
    dropout_rate: float
    published: bool

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        kernel_init = nn.initializers.normal(0.01) if self.published else nn.initializers.he_normal()
        dense_bias = nn.initializers.constant(1.0 if self.published else 0.0)
        outputs = {}

        def drop(x: Array) -> Array:
            return nn.Dropout(self.dropout_rate, deterministic=not train)(x)

        x = image
        for i, conv in enumerate(PUBLISHED if self.published else ONE_TOWER, start=1):
            padding = conv.side // 2
            if i == 1:
                padding = tuple(map(_cover, image.shape[1:3])) if self.published else 2
            bias_init = nn.initializers.constant(conv.bias)
            options = {"groups": conv.groups, "kernel_init": kernel_init, "bias_init": bias_init}
            layer = Conv(conv.features, conv.side, 4 if i == 1 else 1, padding, name=f"conv{i}", **options)
            x = outputs[f"conv{i}"] = nn.relu(layer(x))  # [B,55,55,96], [B,27,27,256], then [B,13,13,...]
            if self.published and i in (1, 2):
                x = outputs[f"norm{i}"] = local_response_norm(x)
            if i in (1, 2, 5):
                x = outputs[f"pool{i}"] = MaxPool(3, 2, name=f"pool{i}")(x)  # [B,27,27,96], [B,13,13,256], [B,6,6,256]
        options: dict[str, Any] = {"kernel_init": kernel_init, "bias_init": dense_bias}
        fc6 = FullyConnected(4096, pool=6, name="fc6", **options)  # of 9216: the map as it is at 224x224 and 227x227
        for name, dense in (("fc6", fc6), ("fc7", nn.Dense(4096, name="fc7", **options))):
            # The paper drops outputs of the hidden layers, torchvision their inputs.
            x = outputs[name] = nn.relu(dense(x if self.published else drop(x)))  # [B,4096]
            x = drop(x) if self.published else x
        outputs["features"] = outputs["fc7"]
        outputs["logits"] = nn.Dense(self.num_classes, kernel_init=kernel_init, name="output")(x)
        return outputs


def _cover(length: int) -> tuple[int, int]:
    """The padding with which 11-pixel windows at stride 4 cover an axis to its last pixel: none at 227, 3 at 224."""
    missing = (11 - length) % 4 if length > 11 else 11 - length
    return missing // 2, missing - missing // 2


def alexnet(*, num_classes: int, dropout_rate: float = 0.5) -> Model:
    """AlexNet as published, any input from 64x64 on; `dropout_rate` is of fc6 and fc7."""
    return from_linen(_AlexNet(num_classes, dropout_rate, published=True))


def alexnet_one_tower(*, num_classes: int, dropout_rate: float = 0.5) -> Model:
    """AlexNet in one tower, as torchvision's weights need it, any input from 63x63 on."""
    return from_linen(_AlexNet(num_classes, dropout_rate, published=False))
