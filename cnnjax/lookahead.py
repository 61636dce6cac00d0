# SPDX-License-Identifier: Apache-2.0
"""Lookahead: the weights that are trained fall back, every few steps, on the way to slow ones that follow them.

Reference: Zhang, Lucas, Hinton, Ba 2019, "Lookahead optimizer: k steps forward, 1 step back" (arXiv:1907.08610). With
a share that rises during the run, and the running averages of BatchNorm among the weights, as in Jordan 2024
(arXiv:2404.00498), section 3.4.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnnjax.types import Array, Config, PyTree

Lookahead = Callable[[Array, PyTree, PyTree], tuple[PyTree, PyTree]]
"""`look(step, slow, fast) -> (slow, fast)`, after `step` steps (from 1) have been taken."""


def make_lookahead(optimizer: Config, num_steps: int) -> Lookahead | None:
    """The Lookahead of `config.optimizer`, or None where it is off.

    Every `lookahead` steps both become `share * slow + (1 - share) * fast`, the share being `lookahead_decay` *
    (step / num_steps)^`lookahead_power`. After the last step the fast ones become the slow ones.
    """
    every, decay, power = optimizer.lookahead, optimizer.lookahead_decay, optimizer.lookahead_power
    if not every:
        return None

    def look(step: Array, slow: PyTree, fast: PyTree) -> tuple[PyTree, PyTree]:
        meets, last = step % every == 0, step == num_steps
        share = decay * (step / num_steps) ** power
        slow = jax.tree.map(lambda s, f: jnp.where(meets, share * s + (1 - share) * f, s), slow, fast)
        return slow, jax.tree.map(lambda s, f: jnp.where(meets | last, s, f), slow, fast)

    return look
