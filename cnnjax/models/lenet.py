# SPDX-License-Identifier: Apache-2.0
"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", figure 2).

Input 32x32x1. Parameters with 10 classes: 61,706 by default. The paper's 60,000 with `sparse_c3=True`,
`pool="trainable"` and `head="rbf"`: C1 156, S2 12, C3 1,516, S4 32, C5 48,120, F6 10,164.
As in the paper: 5x5 convolutions without padding, scaled tanh, C5 a convolution, weights drawn uniformly from
+-2.4 / fan_in. Deviations: biases start at 0; by default full C3, averages without trainable numbers, and a softmax
head. On a larger input C5 is a map, as in section VII; F6 then reads the mean of its positions, so the parameters
fit any size. The sparse C3 is computed as a full convolution with zeros: 240,000 multiply-adds for the 150,000 of its
connections.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import UsageError, unknown
from cnnjax.layers import Conv, FullyConnected, avg_pool2d, conv2d, max_pool2d
from cnnjax.layers.naming import errors_name
from cnnjax.models.adapter import from_linen
from cnnjax.models.digit_codes import DIGIT_CODES
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


def scaled_tanh(x: Array) -> Array:
    """1.7159 tanh(2/3 x): f(1) = 1, f(-1) = -1, and the curvature is largest there (appendix A of the paper)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"scaled_tanh": scaled_tanh, "tanh": jnp.tanh, "relu": nn.relu}
POOLS = ("average", "max", "trainable")
HEADS = ("softmax", "rbf")


def paper_init(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:  # pyright: ignore
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
        with errors_name(self):
            return conv2d(x, kernel, bias)


class _Subsample(nn.Module):
    """Halves a map: the mean or maximum of 2x2 windows, or the paper's, with a coefficient and a bias a map.

    "trainable": the four values are added, multiplied by the coefficient, the bias is added, and the result squashed.
    """

    pool: str
    activation: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        with errors_name(self):
            pooled = max_pool2d(x, 2) if self.pool == "max" else avg_pool2d(x, 2)
        if self.pool != "trainable":
            return pooled
        size = x.shape[-1:]
        coefficient = self.param("coefficient", _coefficient_init, size, x.dtype)
        bias = self.param("bias", nn.initializers.zeros, size, x.dtype)
        return self.activation(4 * pooled * coefficient.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1))


def _coefficient_init(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:  # pyright: ignore
    """Uniform in +-2.4 / fan_in, of the four inputs that share a coefficient."""
    return jax.random.uniform(key, shape, dtype, -0.6, 0.6)


class _LeNet5(nn.Module):
    num_classes: int
    sparse_c3: bool
    activation: Callable[[Array], Array]
    pool: str
    head: str

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        del train  # nothing here depends on it

        def conv(features: int, name: str) -> Conv:
            return Conv(features, 5, kernel_init=paper_init, name=name)

        outputs = {}
        x = outputs["c1"] = self.activation(conv(6, "c1")(image))  # [B,28,28,6]
        x = outputs["s2"] = _Subsample(self.pool, self.activation, name="s2")(x)  # [B,14,14,6]
        c3 = _TableConv(name="c3") if self.sparse_c3 else conv(16, "c3")
        x = outputs["c3"] = self.activation(c3(x))  # [B,10,10,16]
        x = outputs["s4"] = _Subsample(self.pool, self.activation, name="s4")(x)  # [B,5,5,16]
        x = outputs["c5"] = self.activation(conv(120, "c5")(x))  # [B,1,1,120]
        f6 = FullyConnected(84, kernel_init=paper_init, pool=1, name="f6")  # averages a map larger than 1x1
        x = outputs["f6"] = self.activation(f6(x))  # [B,84]
        if self.head == "rbf":
            outputs["logits"] = -_squared_distances(x, DIGIT_CODES)
        else:
            outputs["logits"] = nn.Dense(self.num_classes, kernel_init=paper_init, name="output")(x)
        return outputs


def _squared_distances(x: Array, codes: np.ndarray) -> Array:
    """[B,84], or a map [B,h,w,84], and [K,84] -> [B,K] or [B,h,w,K]; equation 7."""
    difference = jnp.expand_dims(x, -2) - jnp.asarray(codes, x.dtype).reshape(*[1] * (x.ndim - 1), *codes.shape)
    return jnp.square(difference).sum(-1)


def lenet5(
    *,
    num_classes: int,
    sparse_c3: bool = False,
    activation: str = "scaled_tanh",
    pool: str = "average",
    head: str = "softmax",
) -> Model:
    """LeNet-5.

    Args:
      num_classes: K; the rbf head has ten.
      sparse_c3: C3 sees the maps of table I only.
      activation: scaled_tanh, tanh or relu.
      pool: "average", "max", or "trainable": the paper's S2 and S4, with two numbers a map.
      head: "softmax": a dense layer; "rbf": the paper's, whose outputs are squared distances from F6 to a fixed 7x12
        picture of each digit. Its logits are minus the distances, so cross-entropy is the paper's criterion (equation
        9) without the constant for rubbish; its pictures are drawn anew, since the paper shows them but in part.

    Raises:
      UsageError: an unknown name, or an rbf head for other than ten classes.
    """
    for kind, name, known in (("activation", activation, ACTIVATIONS), ("pool", pool, POOLS), ("head", head, HEADS)):
        if name not in known:
            raise UsageError(unknown(f"value of config.model.{kind}:", name, known))
    if head == "rbf" and num_classes != len(DIGIT_CODES):
        raise UsageError(
            f"config.model.head = 'rbf' has codes for ten digits, not for {num_classes} classes; set it to 'softmax'"
        )
    return from_linen(_LeNet5(num_classes, sparse_c3, ACTIVATIONS[activation], pool, head))
