# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.lookahead import make_lookahead
from experiments import default


def section(**values):
    optimizer = default.get_config().optimizer
    with optimizer.unlocked():
        optimizer.update(values)
    return optimizer


def test_off_by_default():
    assert make_lookahead(section(), 10) is None


@pytest.mark.parametrize("power", [0.0, 3.0])
def test_equals_a_slow_loop(power: float):
    """Training that adds 1 a step, written out as the paper does."""
    num_steps, every, decay = 13, 5, 0.8
    slow, fast, wanted = 0.0, 0.0, []
    for step in range(1, num_steps + 1):
        fast = fast + 1
        if step % every == 0:
            share = decay * (step / num_steps) ** power
            slow = slow + (1 - share) * (fast - slow)
            fast = slow
        if step == num_steps:
            fast = slow
        wanted.append((slow, fast))
    look = make_lookahead(section(lookahead=every, lookahead_decay=decay, lookahead_power=power), num_steps)
    assert look is not None
    state, got = ({"w": jnp.zeros(())}, {"w": jnp.zeros(())}), []
    for step in range(1, num_steps + 1):
        state = jax.jit(look)(jnp.asarray(step), state[0], {"w": state[1]["w"] + 1})
        got.append((float(state[0]["w"]), float(state[1]["w"])))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
