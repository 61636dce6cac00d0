# SPDX-License-Identifier: Apache-2.0
"""Dense networks: logistic regression, and the multilayer perceptron.

Parameters on MNIST (28x28x1, 10 classes): logistic 7,850; mlp 784-800-400-10 628,000 + 320,400 + 4,010 = 952,410.
Initialisation: He et al. 2015 (arXiv:1502.01852) before ReLU, LeCun et al. 1998 elsewhere; biases 0.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from cnnjax.errors import UsageError
from cnnjax.layers import FullyConnected
from cnnjax.models.adapter import from_linen
from cnnjax.types import Array, Model, Outputs


class _Logistic(nn.Module):
    num_classes: int
    one_neuron: bool

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        del train  # nothing here depends on it
        zeros = nn.initializers.zeros
        if not self.one_neuron:
            return {"logits": FullyConnected(self.num_classes, kernel_init=zeros, name="output")(image)}
        neuron = FullyConnected(1, use_bias=False, kernel_init=zeros, name="output")(image)  # [B,1] <w, x>
        # softmax([0, z])[1] = sigmoid(z), so cross-entropy is ln(1 + exp(-y z)) with y in {-1, +1}.
        return {"logits": jnp.concatenate([jnp.zeros_like(neuron), neuron], axis=-1)}


def logistic(*, num_classes: int, one_neuron: bool = False) -> Model:
    """Softmax regression, or with `one_neuron` the single neuron P(1|x) = sigmoid(<w, x>) for two classes.

    Weights start at 0: the loss is convex, so the start does not matter and 0 is the symmetric one.
    """
    if one_neuron and num_classes != 2:
        raise UsageError(f"config.model.one_neuron tells two classes apart, not {num_classes}; set config.data.labels")
    return from_linen(_Logistic(num_classes, one_neuron))


class _MLP(nn.Module):
    num_classes: int
    hidden: Sequence[int]
    dropout_rate: float

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        outputs = {}
        x = image
        for i, width in enumerate(self.hidden, start=1):
            layer = FullyConnected if i == 1 else nn.Dense  # of H*W*C, then of a width
            x = nn.relu(layer(width, kernel_init=nn.initializers.he_normal(), name=f"hidden{i}")(x))
            x = outputs[f"hidden{i}"] = nn.Dropout(self.dropout_rate, deterministic=not train)(x)  # [B,width]
        output = nn.Dense if self.hidden else FullyConnected
        return {"logits": output(self.num_classes, name="output")(x), **outputs}


def mlp(*, num_classes: int, hidden: tuple[int, ...] = (800, 400), dropout_rate: float = 0.0) -> Model:
    """The multilayer perceptron with ReLU; dropout (Srivastava et al. 2014) after each hidden layer."""
    return from_linen(_MLP(num_classes, hidden, dropout_rate))
