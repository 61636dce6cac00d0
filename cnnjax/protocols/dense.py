# SPDX-License-Identifier: Apache-2.0
"""Dense evaluation: a trained network on a larger picture, its dense layers turned into convolutions.

The first dense layer (`layers.FullyConnected`) becomes a convolution whose window is the map that it read in training,
those after it 1x1 convolutions; the map of class scores that comes out is averaged over its positions. A network that
ends in global pooling is fully convolutional as it stands.

Reference: Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015, section
3.2; Sermanet et al., "OverFeat", 2014.
"""

from collections.abc import Callable
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

from cnnjax.errors import CnnjaxError, UsageError
from cnnjax.layers import conv2d
from cnnjax.layers.adaptive import adaptive_avg_pool2d
from cnnjax.layers.fully_connected import FullyConnected
from cnnjax.types import Array, Model, ModelState, Outputs, Params

_CALL = "__call__"


def make_dense(model: Model, image_shape: tuple[int, int, int]) -> Model:
    """`model` for pictures of any size from `image_shape` on: `logits` [B,K] is the mean of its score map.

    On pictures of `image_shape` it gives what `model` gives. The parameters are the same.

    Args:
      model: a network that reads its maps through `FullyConnected`, or ends in global pooling.
      image_shape: (height, width, channels) that it was trained on.

    Returns:
      A model for evaluation; with `train=True` it is `model`.

    Raises (when traced):
      UsageError: the network flattens its maps by itself, or has no classes.
    """

    def apply(
        params: Params, model_state: ModelState, image: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, ModelState]:
        if train:
            return model.apply(params, model_state, image, train=True, key=key)
        windows: dict[tuple[str, ...], tuple[int, ...]] = {}
        small = jax.ShapeDtypeStruct((1, *image_shape), image.dtype)
        with nn.intercept_methods(_remembering(windows)):
            jax.eval_shape(lambda p, s, x: model.apply(p, s, x, train=False), params, model_state, small)
        try:
            with nn.intercept_methods(_convolving(windows)):
                outputs, model_state = model.apply(params, model_state, image, train=False)
        except CnnjaxError:
            raise
        except (flax.errors.FlaxError, ValueError, TypeError) as error:
            raise UsageError(
                f"the network does not take {image.shape[1]}x{image.shape[2]} pictures, as dense evaluation shows it: "
                "build it with layers.FullyConnected where it flattens its maps, or take --protocol=tencrop"
            ) from error
        if "logits" not in outputs:
            raise UsageError("a network without classes has no score map; evaluate it with --protocol=single")
        logits = outputs["logits"]
        return {**outputs, "logits": logits.mean(axis=(1, 2)) if logits.ndim == 4 else logits}, model_state

    return Model(model.init, apply)


def _remembering(windows: dict[tuple[str, ...], tuple[int, ...]]) -> Callable[..., Any]:
    """Notes the map [H,W,C] that each FullyConnected reads, by its place in the network."""

    def interceptor(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, FullyConnected) and context.method_name == _CALL:
            windows[context.module.path] = args[0].shape[1:]
        return call(*args, **kwargs)

    return interceptor


def _convolving(windows: dict[tuple[str, ...], tuple[int, ...]]) -> Callable[..., Any]:
    """Computes each FullyConnected as a convolution over the map; [B,H,W,C] to [B,h,w,features]."""

    def interceptor(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if not isinstance(module, FullyConnected) or context.method_name != _CALL:
            return call(*args, **kwargs)
        params = module.variables["params"]
        kernel = as_kernel(params["kernel"], windows[module.path], module.pool)
        x, kernel, bias = promote_dtype(args[0], kernel, params["bias"] if module.use_bias else None)
        return conv2d(x, kernel, bias)

    return interceptor


def as_kernel(weight: Array, window: tuple[int, ...], pool: int = 0) -> Array:
    """The weight [n,F] of a dense layer on a map [h,w,C] as the kernel [h,w,C,F] of a convolution.

    With `pool` the layer reads the map averaged to pool x pool positions: averaging is linear, so that its transpose
    spreads the weight over the map.
    """
    height, width, channels = window
    if not pool:
        return weight.reshape(height, width, channels, -1)
    down, across = _averaging(height, pool), _averaging(width, pool)  # [pool,h], [pool,w]
    wide = jnp.einsum("ph,qw,pqcf->hwcf", down, across, weight.reshape(pool, pool, channels, -1))
    return wide.astype(weight.dtype)


def _averaging(length: int, pool: int) -> Array:
    """The matrix [pool,length] by which an axis is averaged."""
    eye = jnp.asarray(np.eye(length, dtype=np.float32).reshape(length, length, 1, 1))
    return adaptive_avg_pool2d(eye, (pool, 1)).reshape(length, pool).T
