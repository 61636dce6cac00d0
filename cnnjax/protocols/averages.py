# SPDX-License-Identifier: Apache-2.0
"""Averages of weights: of the last checkpoints of a run, and soups of several runs.

The mean of several networks' weights is one network, which costs one network's time. It is a good one only where the
networks lie in one valley of the loss, as steps of one run do, and runs that start from the same trained weights;
runs from different random starts give a mean that knows nothing.

References: Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018; Wortsman et
al., "Model soups", 2022.
"""

from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.types import Array, Batch, Model, ModelState, Params, PyTree


def mean_tree(trees: Sequence[PyTree]) -> PyTree:
    """The mean of trees of the same shapes, leaf by leaf; whole numbers are taken from the last."""

    def mean(*leaves: Array) -> Array:
        if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
            return leaves[-1]
        return jnp.asarray(np.mean([np.asarray(leaf, np.float64) for leaf in leaves], axis=0), leaves[0].dtype)

    return jax.tree.map(mean, *trees)


def greedy_soup(score: Callable[[tuple[int, ...]], float], alone: Sequence[float]) -> tuple[int, ...]:
    """Which of several networks to average: the best first, then each that does not make the mean worse.

    Args:
      score: `score(members)`, the accuracy on validation of the mean of these networks.
      alone: accuracy on validation of each.

    Returns:
      The members, in the order in which they were taken; of equals the first comes first.

    Reference: Wortsman et al. 2022, recipe 1.
    """
    order = sorted(range(len(alone)), key=lambda i: -alone[i])
    taken, best = (order[0],), alone[order[0]]
    for member in order[1:]:
        now = score((*taken, member))
        if now >= best:
            taken, best = (*taken, member), now
    return taken


def reestimate(
    model: Model, params: Params, model_state: ModelState, batches: Iterable[Batch], key: Array
) -> ModelState:
    """BatchNorm's running statistics for `params`: their mean over `batches`, prepared as in training.

    The statistics of averaged weights are not the average of the statistics. Whatever fraction a layer keeps of its
    running average, its update is linear, new = m * old + (1 - m) * batch; so m is read off one batch passed with all
    statistics 0 and 1, and undone.

    Args:
      model: the network.
      params: its parameters.
      model_state: gives the structure; `{}` comes back as it is, and leaves that are no floats as they were.
      batches: of one shape, one or more.
      key: of dropout; batch i takes fold_in(key, i).

    Returns:
      The model_state to evaluate `params` with.
    """
    if not jax.tree.leaves(model_state):
        return model_state

    def filled(value: float) -> ModelState:
        floating = jnp.issubdtype
        return jax.tree.map(lambda x: jnp.full_like(x, value) if floating(x.dtype, jnp.floating) else x, model_state)

    @jax.jit
    def update(params: Params, state: ModelState, image: Array, key: Array) -> ModelState:
        return model.apply(params, state, image, train=True, key=key)[1]

    zeros, totals, kept, count = filled(0), None, None, 0
    for count, batch in enumerate(batches, start=1):
        batch_key = jax.random.fold_in(key, count - 1)
        now = update(params, zeros, batch["image"], batch_key)
        if kept is None:
            ones = update(params, filled(1), batch["image"], batch_key)
            kept = jax.tree.map(lambda one, zero: jnp.round(one - zero, 6), ones, now)
        totals = now if totals is None else jax.tree.map(lambda a, b: a + b, totals, now)

    def settled(old: Array, total: Array, fraction: Array) -> Array:
        return total / (count * (1 - fraction)) if jnp.issubdtype(old.dtype, jnp.floating) else old

    return jax.tree.map(settled, model_state, totals, kept)
