# SPDX-License-Identifier: Apache-2.0
"""The network of airbench94, made to reach 94% on CIFAR-10 in seconds (Jordan 2024, arXiv:2404.00498).

A frozen 2x2 whitening layer, GELU, three blocks of (3x3 convolution, max pooling, BatchNorm, GELU, 3x3 convolution,
BatchNorm, GELU), global max pooling and a linear classifier whose output is divided by 9. Convolutions have no bias;
BatchNorm has no scale and keeps 0.6 of its running averages a step.

Parameters for 32x32x3 and ten classes: 1,971,640 (whitening 312 of them, 288 of which stay as they are).

Initialisation: whitening filters from training patches (`Model.init_from_data`); in the blocks' convolutions the first
filters, as many as there are channels, pass their channel on (Dirac), the others and the classifier uniform within
1 / sqrt(fan_in), as PyTorch starts. Reference code: github.com/KellerJordan/cifar10-airbench, legacy/airbench94.py.
Deviations: global max pooling is the paper's 3x3 on its 3x3 map, and serves other image sizes too; before
`init_from_data` the whitening layer is drawn at random.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnjax.errors import UsageError, unknown
from cnnjax.layers import BatchNorm, Conv, GlobalMaxPool, MaxPool, dirac, whitening_kernel
from cnnjax.models.adapter import from_linen
from cnnjax.types import Array, Model, ModelState, Outputs, Params

BATCH_NORM_EPSILON = 1e-12
GELUS = ("exact", "tanh")


def _uniform(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """Within 1 / sqrt(fan_in) of 0, PyTorch's own start of a convolution or linear layer."""
    bound = 1 / math.sqrt(math.prod(shape[:-1]))
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def _partly_dirac(key: Array, shape: tuple[int, int, int, int], dtype: jnp.dtype = jnp.float32) -> Array:
    """The first filters hand their channel on, the others are uniform."""
    passed_on = jnp.arange(shape[3]).reshape(1, 1, 1, -1) < shape[2]
    return jnp.where(passed_on, dirac(shape).astype(dtype), _uniform(key, shape, dtype))


class _Block(nn.Module):
    """Halves the map and makes `width` channels."""

    width: int
    momentum: float
    gelu: str

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        x = Conv(self.width, 3, padding=1, use_bias=False, kernel_init=_partly_dirac, name="conv1")(x)
        x = self._normed(MaxPool(2, name="pool")(x), "norm1", train=train)
        x = Conv(self.width, 3, padding=1, use_bias=False, kernel_init=_partly_dirac, name="conv2")(x)
        return self._normed(x, "norm2", train=train)

    def _normed(self, x: Array, name: str, *, train: bool) -> Array:
        norm = BatchNorm(momentum=self.momentum, epsilon=BATCH_NORM_EPSILON, use_scale=False, name=name)
        return nn.gelu(norm(x, train=train), approximate=self.gelu == "tanh")


class _Airbench(nn.Module):
    num_classes: int
    widths: Sequence[int]
    whiten_size: int
    whiten_stride: int
    logit_scale: float
    momentum: float
    gelu: str

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        filters = 2 * self.whiten_size**2 * image.shape[-1]
        x = Conv(filters, self.whiten_size, self.whiten_stride, kernel_init=_uniform, name="stem")(image)
        x = nn.gelu(x, approximate=self.gelu == "tanh")
        outputs = {"stem": x}
        for stage, width in enumerate(self.widths, start=1):
            x = outputs[f"stage{stage}"] = _Block(width, self.momentum, self.gelu, name=f"stage{stage}")(x, train=train)
        x = outputs["features"] = GlobalMaxPool(name="pool")(x)  # [B,widths[-1]]
        logits = nn.Dense(self.num_classes, use_bias=False, kernel_init=_uniform, name="output")(x)
        return {"logits": logits * self.logit_scale, **outputs}


def airbench(
    *,
    num_classes: int,
    widths: tuple[int, ...] = (64, 256, 256),
    whiten_size: int = 2,
    whiten_stride: int = 1,
    logit_scale: float = 1 / 9,
    batch_norm_momentum: float = 0.6,
    gelu: str = "exact",
) -> Model:
    """A block for each of `widths` on a whitening layer of 2 * whiten_size^2 * C filters.

    Args:
      num_classes: K.
      widths: channels of the blocks, each of which halves the map.
      whiten_size: side of the whitened patches in pixels.
      whiten_stride: pixels from one patch to the next; 2 makes all maps, and the work, a quarter.
      logit_scale: what the classifier's output is multiplied by.
      batch_norm_momentum: fraction of the running averages that a step keeps.
      gelu: exact | tanh, its usual approximation, which a CPU computes several times faster.

    Raises:
      UsageError: no such `gelu`.
    """
    if gelu not in GELUS:
        raise UsageError(unknown("config.model.gelu", gelu, GELUS))
    linen = from_linen(
        _Airbench(num_classes, widths, whiten_size, whiten_stride, logit_scale, batch_norm_momentum, gelu)
    )

    def with_kernel(params: Params, kernel: Array) -> Params:
        return {**params, "stem": {**params["stem"], "kernel": kernel}}

    def apply(
        params: Params, model_state: ModelState, image: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, ModelState]:
        # The filters come from the data and are not learnt: without a gradient none is computed either.
        params = with_kernel(params, jax.lax.stop_gradient(params["stem"]["kernel"]))
        return linen.apply(params, model_state, image, train=train, key=key)

    def init_from_data(params: Params, model_state: ModelState, images: Array) -> tuple[Params, ModelState]:
        return with_kernel(params, whitening_kernel(images, whiten_size)), model_state

    return Model(linen.init, apply, init_from_data)
