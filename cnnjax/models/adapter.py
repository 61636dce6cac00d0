# SPDX-License-Identifier: Apache-2.0
"""Flax Linen modules as pure functions: the one file that knows collections, `mutable` and `rngs`."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnjax.types import Array, Model, ModelState, Outputs, Params


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

    return Model(model.init, apply)
