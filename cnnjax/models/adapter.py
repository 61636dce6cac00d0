# SPDX-License-Identifier: Apache-2.0
"""Flax Linen modules as pure functions: the one file that knows collections, `mutable` and `rngs`."""

from collections.abc import Callable, Collection
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnjax.errors import UsageError
from cnnjax.layers import BatchNorm
from cnnjax.patterns import path_string
from cnnjax.types import Array, Model, ModelState, Outputs, Params

_STATISTICS = "batch_stats"  # the collection of BatchNorm's running averages


def from_linen(module: nn.Module) -> Model:
    """Wraps a Linen module whose call `module(image, train=...)` returns a dict of outputs.

    The collection `params` becomes params; all others (BatchNorm's `batch_stats`) become model_state, which is
    `{}` when there is none. `key` feeds the random stream `dropout`.
    """

    def init(key: Array, image: Array) -> tuple[Params, ModelState]:
        params_key, dropout_key = jax.random.split(key)
        variables = dict(module.init({"params": params_key, "dropout": dropout_key}, image, train=False))
        params = variables.pop("params", {})
        return params, variables

    def apply(
        params: Params, model_state: ModelState, image: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, ModelState]:
        variables = {"params": params, **model_state}
        if not train:
            return module.apply(variables, image, train=False), model_state  # pyright: ignore[reportReturnType]
        rngs = None if key is None else {"dropout": key}
        outputs, updated = module.apply(variables, image, train=True, rngs=rngs, mutable=list(model_state))
        return outputs, dict(updated)

    return Model(init, apply)


def hold_statistics(model: Model, layers: Collection[str]) -> Model:
    """`model` whose normalisation layers `layers` use and keep their running statistics in training too.

    Reaches the BatchNorm of `cnnjax.layers` and of `flax.linen` inside Linen modules.

    Args:
      model: any network.
      layers: paths of modules, "stage1/block1/bn1"; those without statistics are passed over.

    Raises:
      UsageError: the returned `apply`, when traced: one of `layers` has statistics and is of another kind.
    """

    def apply(
        params: Params, model_state: ModelState, image: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, ModelState]:
        reached = set()

        def held(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            module, layer = context.module, "/".join(context.module.path)
            if layer in layers and context.method_name == "__call__":
                if isinstance(module, BatchNorm):
                    reached.add(layer)
                    kwargs = {**kwargs, "train": False}
                elif isinstance(module, nn.BatchNorm) and module.use_running_average is None:
                    reached.add(layer)
                    kwargs = {**kwargs, "use_running_average": True}
            return call(*args, **kwargs)

        with nn.intercept_methods(held):
            outputs, new_state = model.apply(params, model_state, image, train=train, key=key)
        for path, _ in jax.tree_util.tree_leaves_with_path(model_state) if train else ():
            layer = path_string(path[:-1]).removeprefix(f"{_STATISTICS}/")
            if layer in layers and layer not in reached:
                raise UsageError(
                    f"the statistics of {layer} cannot be held in training: it is no BatchNorm of cnnjax.layers or "
                    f"flax.linen that takes use_running_average where it is called; set config.freeze to leave it out"
                )
        return outputs, new_state

    return model._replace(apply=apply)


def compute_in(model: Model, dtype: Any) -> Model:
    """`model` computing in `dtype` (bfloat16): parameters and model_state stay float32, outputs return to it."""
    if jnp.dtype(dtype) == jnp.float32:
        return model

    def cast(tree: Any, to: Any) -> Any:
        return jax.tree.map(lambda x: x.astype(to) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)

    def apply(
        params: Params, model_state: ModelState, image: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, ModelState]:
        # Running statistics are not cast: averages of many small numbers lose too much in 8 bits of mantissa.
        outputs, new_state = model.apply(cast(params, dtype), model_state, cast(image, dtype), train=train, key=key)
        return cast(outputs, jnp.float32), jax.tree.map(lambda new, old: new.astype(old.dtype), new_state, model_state)

    return model._replace(apply=apply)
