# SPDX-License-Identifier: Apache-2.0
"""The size of the loss's gradient by depth: whether it vanishes, or explodes, on its way back to the first layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.inspect.leaves import find_leaves, find_uses, path_names
from cnnjax.inspect.trace import trace
from cnnjax.layers.scan import turn_path, unstack
from cnnjax.types import Batch, Model, ModelState, Params, Task


class KernelGradient(NamedTuple):
    """The gradient of the mean loss with respect to one kernel.

    Attributes:
      name: the kernel's path in the parameters ("stage1/block2/conv1/kernel").
      norm: its Euclidean norm, in units of loss per unit of weight.
    """

    name: str
    norm: float


def kernel_gradients(
    model: Model, task: Task, params: Params, model_state: ModelState, batch: Batch
) -> list[KernelGradient]:
    """The gradient of each kernel (a parameter of two or more axes), in the order in which the image meets them.

    Args:
      model: any pair of functions, run as in training, with dropout drawn from a fixed key.
      task: gives the per-example `loss`, of which the mean over the batch is taken.
      params: as `model.init` makes them.
      model_state: likewise.
      batch: prepared images [B,H,W,C] and their labels; gradients of small batches are noisy.
    """

    def loss(params: Params) -> jax.Array:
        outputs, _ = model.apply(params, model_state, batch["image"], train=True, key=jax.random.key(0))
        return jnp.mean(task(outputs, batch)["loss"])

    norms = {
        "/".join(path_names(path)): float(np.linalg.norm(np.asarray(leaf, np.float64)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(unstack(jax.jit(jax.grad(loss))(params)))
        if leaf.ndim >= 2
    }
    order = {name: i for i, name in enumerate(order_of_use(model, params, model_state, batch["image"][:1]))}
    return [KernelGradient(name, norms[name]) for name in sorted(norms, key=lambda name: order.get(name, len(order)))]


def order_of_use(model: Model, params: Params, model_state: ModelState, image: Any) -> list[str]:
    """The parameters' paths, those of scanned blocks apart, by the first step that uses each; `image` is [1,H,W,C]."""
    traced = trace(lambda *args: model.apply(*args, train=False)[0], params, model_state, image)
    paths = [path_names(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    used = [part for use in find_uses(traced, find_leaves(params, model_state)) for part in sorted(use.parts)]
    return list(dict.fromkeys(turn_path(paths[part.leaf], part.turns) for part in used if part.leaf < len(paths)))
