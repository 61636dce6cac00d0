# SPDX-License-Identifier: Apache-2.0
"""A network in plain jax.numpy: two functions and no library."""

import jax
import jax.numpy as jnp

from cnnjax.types import Model


def net(*, num_classes: int, width: int = 64) -> Model:
    """Two dense layers with tanh between them."""

    def init(key, image):
        first, second = jax.random.split(key)
        size = image[0].size
        w1 = jax.random.normal(first, (size, width)) / size**0.5
        w2 = jax.random.normal(second, (width, num_classes)) / width**0.5
        return {"w1": w1, "w2": w2}, {}  # params, and no running statistics

    def apply(params, model_state, image, *, train, key=None):
        hidden = jnp.tanh(image.reshape(len(image), -1) @ params["w1"])
        return {"hidden": hidden, "logits": hidden @ params["w2"]}, model_state

    return Model(init, apply)
