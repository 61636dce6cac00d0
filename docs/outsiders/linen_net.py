# SPDX-License-Identifier: Apache-2.0
"""A network in Flax Linen, with batch normalisation and dropout: the adapter makes it a pair of functions."""

import flax.linen as nn

from cnnjax.models.adapter import from_linen
from cnnjax.types import Model


class Net(nn.Module):
    """One convolution and a dense head."""

    num_classes: int
    width: int

    @nn.compact
    def __call__(self, image, *, train):
        """Returns the outputs by name."""
        x = nn.Conv(self.width, (3, 3))(image)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.Dropout(0.1, deterministic=not train)(x.reshape(len(x), -1))
        return {"logits": nn.Dense(self.num_classes)(x)}


def net(*, num_classes: int, width: int = 16) -> Model:
    """The module as a model."""
    return from_linen(Net(num_classes, width))
