# SPDX-License-Identifier: Apache-2.0
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import load_config
from cnnjax.errors import UsageError
from cnnjax.optim import OPTIMIZERS, epochs_to_steps, make_optimizer, make_schedule


def config(*overrides: str):
    return load_config("experiments/default.py", [f"--config.{o}" for o in overrides])


def rates(*overrides: str, peak: float = 1.0, num_steps: int = 100, steps_per_epoch: float = 10.0) -> np.ndarray:
    schedule = make_schedule(
        config(*overrides).schedule, peak=peak, num_steps=num_steps, steps_per_epoch=steps_per_epoch
    )
    return np.array([np.asarray(schedule(step)) for step in range(num_steps + 1)])


def test_epochs_in_steps_are_rounded_up_but_not_by_float_noise():
    assert epochs_to_steps(3, 1 / 3) == 1
    assert epochs_to_steps(1, 351.5625) == 352
    assert epochs_to_steps(2, 351.5625) == 704


def test_step_schedule_of_the_resnet_paper():
    got = rates("schedule.name=step", "schedule.boundaries_steps=(32,48)", peak=0.1)
    np.testing.assert_allclose(got[[0, 31, 33, 47, 49, 100]], [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-5)


def test_a_triangle_starts_and_ends_above_zero():
    """airbench94's: from 0.2 of the peak up for 23% of the run, then down to 0.07."""
    triangle = ("schedule.name=polynomial", "schedule.initial_fraction=0.2", "schedule.final_fraction=0.07")
    got = rates(*triangle, "schedule.warmup_steps=23", peak=2.0)
    np.testing.assert_allclose(got, 2 * np.interp(np.arange(101), [0, 23, 100], [0.2, 1.0, 0.07]), rtol=1e-5)


def test_boundaries_in_epochs_count_the_warmup_too():
    got = rates("schedule.name=step", "schedule.boundaries_epochs=(3.0,)", "schedule.warmup_epochs=1")
    np.testing.assert_allclose(got[[0, 5, 10, 29, 31]], [0.0, 0.5, 1.0, 1.0, 0.1], rtol=1e-5)


def test_cosine_polynomial_constant_and_one_cycle():
    np.testing.assert_allclose(rates("schedule.name=cosine")[[0, 50, 100]], [1.0, 0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(
        rates("schedule.name=polynomial", "schedule.power=2", "schedule.final_fraction=0.1")[[0, 50, 100]],
        [1.0, 0.1 + 0.9 * 0.25, 0.1],
        atol=1e-6,
    )
    np.testing.assert_allclose(
        rates("schedule.name=constant", "schedule.warmup_steps=4")[[0, 1, 4, 99]], [0, 0.25, 1, 1]
    )
    got = rates("schedule.name=one_cycle", "schedule.warmup_steps=20", "schedule.final_fraction=0.01")
    np.testing.assert_allclose(got[[0, 20, 100]], [1 / 25, 1.0, 0.01], rtol=1e-4)
    assert np.argmax(got) == 20


def test_schedule_errors():
    with pytest.raises(UsageError, match="did you mean 'cosine'"):
        rates("schedule.name=cosin")
    with pytest.raises(UsageError, match="lasts 100 steps, but the run has only 100"):
        rates("schedule.warmup_epochs=10")


def first_update(name: str, *overrides: str) -> dict[str, np.ndarray]:
    section = config(f"optimizer.name={name}", *overrides).optimizer
    tx = make_optimizer(section, lambda step: 0.1)
    params = {"kernel": jnp.array([[2.0, -1.0]]), "bias": jnp.array([3.0])}
    grads = {"kernel": jnp.array([[0.5, 0.25]]), "bias": jnp.array([1.0])}
    updates: Any = tx.update(grads, tx.init(params), params)[0]
    return {k: np.asarray(v) for k, v in updates.items()}


def test_sgd_adds_the_l2_and_l1_terms_to_kernels_only():
    got = first_update("sgd", "optimizer.weight_decay=0.1", "optimizer.l1=0.01")
    # -0.1 * (g + 0.1 w + 0.01 sign w)
    np.testing.assert_allclose(got["kernel"], [[-0.1 * (0.5 + 0.2 + 0.01), -0.1 * (0.25 - 0.1 - 0.01)]], rtol=1e-6)
    np.testing.assert_allclose(got["bias"], [-0.1], rtol=1e-6)
    got = first_update("sgd", "optimizer.weight_decay=0.1", "optimizer.decay=all")
    np.testing.assert_allclose(got["bias"], [-0.1 * (1 + 0.3)], rtol=1e-6)


def test_adamw_decays_beside_the_gradient():
    plain, decayed = first_update("adamw"), first_update("adamw", "optimizer.weight_decay=0.1")
    np.testing.assert_allclose(decayed["kernel"] - plain["kernel"], [[-0.1 * 0.2, 0.1 * 0.1]], rtol=1e-4)
    np.testing.assert_allclose(decayed["bias"], plain["bias"])


def test_clipping_bounds_the_global_norm():
    got = first_update("sgd", "optimizer.clip_norm=0.01")
    norm = np.sqrt(sum(np.sum((v / 0.1) ** 2) for v in got.values()))
    np.testing.assert_allclose(norm, 0.01, rtol=1e-5)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_goes_downhill(name: str):
    got = first_update(name)
    assert all((value < 0).all() for value in got.values())  # every gradient above is positive


def test_unknown_optimizer():
    with pytest.raises(UsageError, match="did you mean 'lion'"):
        first_update("lions")
