# SPDX-License-Identifier: Apache-2.0
"""How the training state lies on the devices: whole on each, or its large arrays divided (`config.train.shard_params`).

Divided ("fully sharded data parallel", FSDP): every device keeps a part of the parameters, of their averages and of
the optimizer's state. A training step brings the parameters together where it needs them, and each device keeps its
part of the summed gradients only. The numbers are those of whole arrays but for the order of the sums.

Reference: Rajbhandari, Rasley, Ruwase, He 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models"
(arXiv:1910.02054), stage 3.
"""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnjax.devices import replicated
from cnnjax.types import Array, Model, ModelState, Outputs, Params, PyTree


def divide(tree: PyTree, mesh: Mesh, smallest: int) -> PyTree:
    """The sharding of each array.

    One of at least `smallest` values is divided over the devices along its longest axis that their number divides,
    and is whole where there is none. What has the same shape, such as a weight and its momentum, lies alike.

    Args:
      tree: arrays or their shapes.
      mesh: the devices.
      smallest: number of values; 0: nothing is divided.
    """

    def sharding(x: Any) -> NamedSharding:
        axes = [i for i, length in enumerate(x.shape) if length and length % mesh.size == 0]
        if not smallest or x.size < smallest or not axes:
            return replicated(mesh)
        longest = max(axes, key=lambda i: x.shape[i])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "data"))

    return jax.tree.map(sharding, tree)


def gather_in_training(model: Model, shardings: PyTree) -> Model:
    """`model` whose training brings divided parameters together, and divides their gradients in the same way.

    Left to itself the compiler may divide the computation as the parameters lie, and not by examples.

    Args:
      model: any network.
      shardings: of its parameters, from `divide`; where none is divided, `model` itself is returned.
    """
    if all(sharding.is_fully_replicated for sharding in jax.tree.leaves(shardings)):
        return model

    def apply(
        params: Params, model_state: ModelState, image: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, ModelState]:
        if train:
            params = jax.tree.map(_gathered, params, shardings)
        return model.apply(params, model_state, image, train=train, key=key)

    return model._replace(apply=apply)


def _gathered(x: Array, sharding: NamedSharding) -> Array:
    @jax.custom_vjp
    def gather(x: Array) -> Array:
        return jax.lax.with_sharding_constraint(x, replicated(sharding.mesh))  # pyright: ignore[reportArgumentType]

    def forward(x: Array) -> tuple[Array, None]:
        return gather(x), None

    def backward(_: None, gradient: Array) -> tuple[Array]:
        return (jax.lax.with_sharding_constraint(gradient, sharding),)

    gather.defvjp(forward, backward)
    return gather(x)
