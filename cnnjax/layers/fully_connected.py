# SPDX-License-Identifier: Apache-2.0
"""The dense layer that follows the maps, as one module, so that it can be told from the dense layers after it."""

import flax.linen as nn

from cnnjax.layers.adaptive import adaptive_avg_pool2d
from cnnjax.types import Array


class FullyConnected(nn.Dense):
    """A dense layer that reads every value of a map: flatten, then `flax.linen.Dense`, whose parameters it has.

    Dense evaluation (cnnjax.protocols.dense) turns it into a convolution whose window is the map of training, and
    the dense layers after it into 1x1 convolutions. A network with its own `reshape` works in training all the same.

    Attributes:
      pool: the map is averaged to pool x pool positions first, so that pictures of several sizes fit; 0: it is not.
    """

    pool: int = 0

    def __call__(self, inputs: Array) -> Array:
        """Maps [B,H,W,C] to [B,features]."""
        if self.pool:
            inputs = adaptive_avg_pool2d(inputs, self.pool)
        return super().__call__(inputs.reshape(inputs.shape[0], -1))
