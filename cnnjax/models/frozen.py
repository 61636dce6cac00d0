# SPDX-License-Identifier: Apache-2.0
"""A network of which a part stands still: no gradient for its parameters, no new statistics for its BatchNorm."""

from collections.abc import Collection

import jax

from cnnjax.models.adapter import hold_statistics
from cnnjax.patterns import path_string
from cnnjax.types import Array, Model, ModelState, Outputs, Params


def freeze(model: Model, params: Params, frozen: Collection[str]) -> Model:
    """`model` with the parameters `frozen` (by path) constant in training.

    Their gradients are zeros that cost nothing: the compiler leaves out what leads to them alone. A layer all of whose
    parameters are frozen and that keeps running statistics (BatchNorm) normalises by those in training too, and leaves
    them as they are. Dropout is not touched.

    Args:
      model: any network.
      params: its parameters, or their shapes.
      frozen: paths of `patterns.param_paths`; none gives `model` itself.

    Raises:
      UsageError: the returned `apply`, when traced: a frozen layer keeps statistics that cannot be held.
    """
    if not frozen:
        return model
    held = hold_statistics(model, _standing_layers(params, frozen))

    def apply(
        params: Params, model_state: ModelState, image: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, ModelState]:
        if not train:
            return model.apply(params, model_state, image, train=False, key=key)
        params = jax.tree_util.tree_map_with_path(
            lambda path, x: jax.lax.stop_gradient(x) if path_string(path) in frozen else x, params
        )
        return held.apply(params, model_state, image, train=True, key=key)

    return model._replace(apply=apply)


def _standing_layers(params: Params, frozen: Collection[str]) -> frozenset[str]:
    """The layers all of whose own parameters are frozen."""
    own: dict[str, bool] = {}
    for path, _ in jax.tree_util.tree_leaves_with_path(params):
        layer = path_string(path[:-1])
        own[layer] = own.get(layer, True) and path_string(path) in frozen
    return frozenset(layer for layer, still in own.items() if still)
