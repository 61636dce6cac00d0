# SPDX-License-Identifier: Apache-2.0
"""A small plain network for 32x32 colour images: (3x3 convolution, ReLU) and max pooling a stage, then dense.

The lectures' network for CIFAR-10, with dropout (Srivastava et al. 2014) after each pooling and before the output.
Initialisation: He et al. 2015 (arXiv:1502.01852).
"""

from collections.abc import Sequence

import flax.linen as nn

from cnnjax.layers import Conv, FullyConnected, MaxPool
from cnnjax.models.adapter import from_linen
from cnnjax.types import Array, Model, Outputs


class _SimpleCNN(nn.Module):
    num_classes: int
    widths: Sequence[int]
    convs_per_stage: int
    dense: int
    conv_dropout_rate: float
    dense_dropout_rate: float

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        he = nn.initializers.he_normal()
        outputs = {}
        x = image
        for stage, width in enumerate(self.widths, start=1):
            for i in range(1, self.convs_per_stage + 1):
                x = nn.relu(Conv(width, 3, padding=1, kernel_init=he, name=f"stage{stage}_conv{i}")(x))
            x = MaxPool(2, name=f"stage{stage}_pool")(x)  # [B,H/2^stage,W/2^stage,width]
            x = outputs[f"stage{stage}"] = nn.Dropout(self.conv_dropout_rate, deterministic=not train)(x)
        x = outputs["features"] = nn.relu(FullyConnected(self.dense, kernel_init=he, name="features")(x))  # [B,dense]
        x = nn.Dropout(self.dense_dropout_rate, deterministic=not train)(x)
        return {"logits": nn.Dense(self.num_classes, name="output")(x), **outputs}


def simple_cnn(
    *,
    num_classes: int,
    widths: tuple[int, ...] = (32, 64, 128),
    convs_per_stage: int = 1,
    dense: int = 256,
    conv_dropout_rate: float = 0.1,
    dense_dropout_rate: float = 0.5,
) -> Model:
    """A stage for each of `widths`, halving the map each time, then one hidden dense layer."""
    return from_linen(_SimpleCNN(num_classes, widths, convs_per_stage, dense, conv_dropout_rate, dense_dropout_rate))
