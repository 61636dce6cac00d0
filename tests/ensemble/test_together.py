# SPDX-License-Identifier: Apache-2.0
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax import memory
from cnnjax.ensemble.configs import member_configs
from cnnjax.ensemble.together import WAYS, build_together
from cnnjax.experiment import build_model, build_train_step, make_plan
from cnnjax.memory import TooLarge
from cnnjax.optim import OPTIMIZERS, make_optimizer
from cnnjax.parts import build

EVERYTHING = (
    "model.dropout_rate=0.2",
    "augment.mirror=0.5",
    "augment.mixup=0.2",
    "optimizer.name=adam",
    "train.ema_decay=0.9",
    "train.steps_per_dispatch=2",
    "schedule.name=cosine",
    "schedule.warmup_steps=2",
)


def close(together, alone, *, rtol: float, atol: float) -> None:
    np.testing.assert_allclose(together, alone, rtol=rtol, atol=atol)


def steps(dispatch, stream, state, count: int = 4):
    for step in range(0, count, 2):
        state, rows = dispatch(state, stream.arrays, stream.items(step, 2), 2)
    return jax.device_get(state), jax.device_get(rows)


@pytest.fixture(scope="module")
def alone():
    """`alone(seed, config)`: state and sums of the separate run, trained once for all tests."""
    done = {}

    def train(seed: int, config):
        if seed not in done:
            training = build(config).training
            done[seed] = steps(training.dispatch, training.stream, training.init())
        return done[seed]

    return train


@pytest.mark.parametrize(
    ("way", "size"),
    [
        ("vmap", 2),
        ("vmap", 3),
        ("turns", 2),
        pytest.param("unrolled", 2, marks=pytest.mark.slow),
        pytest.param("map", 2, marks=pytest.mark.slow),
    ],
)
def test_members_are_the_separate_networks(tiny, alone, way: str, size: int):
    """Two members are divided over the two devices of the tests; of three, each batch is."""
    assert way in WAYS and jax.device_count() == 2
    configs = member_configs(tiny(*EVERYTHING, f"ensemble_size={size}", "ensemble_learning_rates=()"))
    configs[1] = member_configs(tiny(*EVERYTHING, "seed=1", "optimizer.learning_rate=0.2"))[0]
    parts = build(configs[0])
    together = build_together(parts, configs, way)
    state, rows = steps(together.dispatch, together.stream, together.stack(together.init()))
    for i, config in enumerate(configs):
        own, own_rows = alone(config.seed, config)
        jax.tree.map(partial(close, rtol=2e-4, atol=2e-6), together.take(i, state), own)
        jax.tree.map(partial(close, rtol=1e-4, atol=1e-6), together.rows(i, rows), own_rows)
    kernels = [jax.tree.leaves(together.take(i, state).params)[1] for i in (0, 1)]
    assert not np.allclose(*kernels)


def test_members_begin_bit_for_bit_as_separate_networks_and_share_the_data(tiny):
    configs = member_configs(tiny(*EVERYTHING, "ensemble_seeds=(3,8)"))
    parts = build(configs[0])
    together = build_together(parts, configs, "vmap")
    state = together.stack(together.init())
    alone = [build(config).training for config in configs]
    for i, own in enumerate(alone):
        jax.tree.map(np.testing.assert_array_equal, together.take(i, state), own.init())
    assert together.stream.arrays[0] is parts.training.stream.arrays
    batch = together.stream.batch(together.stream.arrays, jax.tree.map(lambda x: x[0], together.stream.items(5, 1)))
    for i, own in enumerate(alone):
        theirs = own.stream.batch(own.stream.arrays, jax.tree.map(lambda x: x[0], own.stream.items(5, 1)))
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda x: x[i], batch), theirs)  # noqa: B023


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_numbers_of_the_optimizer_can_be_traced(tiny, name: str):
    numbers = {"learning_rate": 0.02, "momentum": 0.8, "weight_decay": 0.01, "l1": 0.001, "clip_norm": 0.5}
    numbers |= {"beta1": 0.85, "beta2": 0.95, "epsilon": 1e-6}
    config = tiny(f"optimizer.name={name}", *(f"optimizer.{key}={value}" for key, value in numbers.items()))
    model, plan = build_model(config, 3), make_plan(config.train, 6.0)
    params = {"kernel": jnp.linspace(-1, 1, 6).reshape(2, 3), "bias": jnp.ones(3)}
    grads = jax.tree.map(lambda p: jnp.cos(3 * p), params)

    image, count = jax.ShapeDtypeStruct((16, 8, 8, 1), jnp.float32), np.ones(3, int)

    def two_updates(numbers):
        _, tx, _ = build_train_step(config, model, image, count, plan, **numbers)
        state, own = tx.init(params), params
        for _ in range(2):
            updates, state = tx.update(grads, state, own)
            own = optax.apply_updates(own, updates)
        return own

    assert make_optimizer(config.optimizer, optax.constant_schedule(0.02)).init(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), jax.jit(two_updates)(numbers), two_updates({})
    )


def test_networks_that_do_not_fit_into_the_memory_are_told_before_they_start(tiny, monkeypatch):
    configs = member_configs(tiny("ensemble_size=4"))
    parts = build(configs[0])
    monkeypatch.setattr(memory, "free_bytes", lambda: 20_000)
    with pytest.raises(TooLarge, match=r"^4 networks mlp at once need .* 19.5 KiB are free: train at most [1-3] at"):
        build_together(parts, configs, "vmap")
