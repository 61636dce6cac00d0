# SPDX-License-Identifier: Apache-2.0
"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", figure 2).

Input 32x32x1. Parameters with 10 classes: 61,706 with full C3, 60,806 with the sparse C3 of table I.
As in the paper: 5x5 convolutions without padding, scaled tanh, averaging subsampling, C5 a convolution,
weights drawn uniformly from +-2.4 / fan_in.
Deviations: a softmax head instead of the RBF one, and subsampling without its two trainable numbers a map.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import UsageError, unknown
from cnnjax.models.adapter import from_linen
from cnnjax.types import Array, Model, Outputs

# Table I: which maps of S2 (rows) each map of C3 (columns) sees; 60 connections.
C3_TABLE = np.array(
    [
        [1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1],
        [1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1],
        [1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 1],
        [0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 1, 1],
        [0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 0, 1],
        [0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1],
    ]
)

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    # f(1) = 1, f(-1) = -1, and the curvature is largest there (appendix A of the paper).
    "scaled_tanh": lambda x: 1.7159 * jnp.tanh(2 / 3 * x),
    "tanh": jnp.tanh,
    "relu": nn.relu,
}
POOLS: dict[str, Callable[..., Array]] = {"average": nn.avg_pool, "max": nn.max_pool}


def _paper_init(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:  # pyright: ignore
    """Uniform in +-2.4 / fan_in; fan_in is the product of all axes but the last."""
    bound = 2.4 / float(np.prod(shape[:-1]))
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class _TableConv(nn.Module):
    """A 5x5 convolution over the connections of C3_TABLE; those that it lacks have no weight at all."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        seen, unit = np.nonzero(C3_TABLE)
        bound = 2.4 / (25 * C3_TABLE.sum(axis=0)[unit])  # [60] by the fan_in of the unit that is fed
        bound = jnp.asarray(bound.reshape(1, 1, -1), jnp.float32)
        weight = self.param("kernel", lambda key: bound * jax.random.uniform(key, (5, 5, 60), minval=-1.0))
        bias = self.param("bias", nn.initializers.zeros, (16,))
        kernel = jnp.zeros((5, 5, *C3_TABLE.shape), weight.dtype).at[:, :, seen, unit].set(weight)
        maps = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return maps + bias.reshape(1, 1, 1, -1)


class _LeNet5(nn.Module):
    num_classes: int
    sparse_c3: bool
    activation: Callable[[Array], Array]
    pool: Callable[..., Array]

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        del train  # nothing here depends on it

        def conv(features: int, name: str) -> nn.Conv:
            return nn.Conv(features, (5, 5), padding="VALID", kernel_init=_paper_init, name=name)

        def subsample(x: Array) -> Array:
            return self.pool(x, (2, 2), strides=(2, 2))

        outputs = {}
        x = outputs["c1"] = self.activation(conv(6, "c1")(image))  # [B,28,28,6]
        x = outputs["s2"] = subsample(x)  # [B,14,14,6]
        c3 = _TableConv(name="c3") if self.sparse_c3 else conv(16, "c3")
        x = outputs["c3"] = self.activation(c3(x))  # [B,10,10,16]
        x = outputs["s4"] = subsample(x)  # [B,5,5,16]
        x = outputs["c5"] = self.activation(conv(120, "c5")(x))  # [B,1,1,120]
        x = x.reshape(x.shape[0], -1)  # [B,120]
        x = outputs["f6"] = self.activation(nn.Dense(84, kernel_init=_paper_init, name="f6")(x))  # [B,84]
        outputs["logits"] = nn.Dense(self.num_classes, kernel_init=_paper_init, name="output")(x)
        return outputs


def lenet5(
    *, num_classes: int, sparse_c3: bool = False, activation: str = "scaled_tanh", pool: str = "average"
) -> Model:
    """LeNet-5; `sparse_c3` takes the connections of table I, `activation` and `pool` go by the names above."""
    for kind, name, known in (("activation", activation, ACTIVATIONS), ("pool", pool, POOLS)):
        if name not in known:
            raise UsageError(unknown(f"value of config.model.{kind}:", name, known))
    return from_linen(_LeNet5(num_classes, sparse_c3, ACTIVATIONS[activation], POOLS[pool]))
