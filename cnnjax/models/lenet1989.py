# SPDX-License-Identifier: Apache-2.0
"""LeNet-1989 (LeCun et al. 1989, "Backpropagation applied to handwritten zip code recognition", Neural Comp. 1(4)).

Input 16x16x1 in -1..1. 9,760 parameters (H1 1,068, H2 2,592, H3 5,790, output 310) and 64,660 connections: 63,660
multiply-adds and the biases of 1,000 units. As in the paper: 5x5 windows two pixels apart, weights shared but a bias
a unit, a background level beyond the border, scaled tanh everywhere, weights uniform in +-2.4 / fan_in.
The paper does not say which 8 of the 12 maps of H1 each map of H2 sees. Here each third of H2 sees two thirds of H1
(0-7, 4-11, 8-11 and 0-3), so that each map is seen equally often. Deviation: biases start at 0.
The paper trains against -1 and +1 with the mean squared error, `config.task.loss = "squared_error"`.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from cnnjax.layers import conv2d
from cnnjax.models.adapter import from_linen
from cnnjax.models.lenet import paper_init, scaled_tanh
from cnnjax.types import Array, Model, Outputs

# Which maps of H1 each third of H2 sees.
H2_MAPS = np.array([[0, 1, 2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 8, 9, 10, 11], [8, 9, 10, 11, 0, 1, 2, 3]])


class _Maps(nn.Module):
    """Twelve maps of half the size: 5x5 windows, stride 2, shared weights, and a bias for each unit.

    Attributes:
      background: the value of the two pixels beyond each border.
      groups: parts that the input's and the output's maps are split into.
    """

    background: float
    groups: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", paper_init, (5, 5, x.shape[-1] // self.groups, 12), x.dtype)
        x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=self.background)
        x = conv2d(x, kernel, stride=2, groups=self.groups)
        bias = self.param("bias", nn.initializers.zeros, x.shape[1:], x.dtype)
        return x + jnp.expand_dims(bias, 0)


class _LeNet1989(nn.Module):
    num_classes: int
    background: float

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        del train  # nothing here depends on it
        outputs = {}
        x = outputs["h1"] = scaled_tanh(_Maps(self.background, name="h1")(image))  # [B,8,8,12]
        x = x[..., H2_MAPS.reshape(-1)]  # [B,8,8,24]
        x = outputs["h2"] = scaled_tanh(_Maps(self.background, len(H2_MAPS), name="h2")(x))  # [B,4,4,12]
        x = x.reshape(x.shape[0], -1)  # [B,192]
        x = outputs["h3"] = scaled_tanh(nn.Dense(30, kernel_init=paper_init, name="h3")(x))  # [B,30]
        outputs["logits"] = scaled_tanh(nn.Dense(self.num_classes, kernel_init=paper_init, name="output")(x))
        return outputs


def lenet1989(*, num_classes: int, background: float = -1.0) -> Model:
    """LeNet-1989; `background` is the input's value beyond its border and, as in the paper, that of H1.

    Any input size works; its parameters fit one size only, since each unit has a bias.
    """
    return from_linen(_LeNet1989(num_classes, background))
