# SPDX-License-Identifier: Apache-2.0
"""A network in Flax NNX, with batch normalisation: split into pure values, merged again inside `apply`."""

import jax
from flax import nnx

from cnnjax.types import Model


class Net(nnx.Module):
    """One convolution and a dense head."""

    def __init__(self, shape, num_classes, width, rngs):
        height, breadth, channels = shape
        self.conv = nnx.Conv(channels, width, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.head = nnx.Linear(height * breadth * width, num_classes, rngs=rngs)

    def __call__(self, image):
        """Returns the logits."""
        x = nnx.relu(self.norm(self.conv(image)))
        return self.head(x.reshape(len(x), -1))


def net(*, num_classes: int, width: int = 16) -> Model:
    """The module as a model: parameters apart from the statistics of its BatchNorm."""

    def split(key, image):
        return nnx.split(Net(image.shape[1:], num_classes, width, nnx.Rngs(key)), nnx.Param, ...)

    def init(key, image):
        _, params, rest = split(key, image)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)

    def apply(params, model_state, image, *, train, key=None):
        graph, own_params, own_rest = nnx.eval_shape(lambda: split(jax.random.key(0), image))
        nnx.replace_by_pure_dict(own_params, params)
        nnx.replace_by_pure_dict(own_rest, model_state)
        network = nnx.merge(graph, own_params, own_rest)
        network.set_attributes(use_running_average=not train)
        logits = network(image)
        return {"logits": logits}, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))

    return Model(init, apply)
