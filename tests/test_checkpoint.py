# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.checkpoint import Checkpoints, compare
from cnnjax.types import TrainState


def state(value: float) -> TrainState:
    kernel = jnp.full((2, 3), value)
    return TrainState(
        jnp.asarray(int(value), jnp.int32),
        {"kernel": kernel},
        {"mean": jnp.full(3, value, jnp.bfloat16)},
        (kernel,),
        {},
    )


def like(of: TrainState):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), of)._asdict()


def test_the_latest_and_the_best_are_kept_and_come_back_whole(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=1, keep_best=True)
    for step, score in ((1, 0.2), (2, 0.9), (3, 0.9), (4, 0.1), (5, 0.3)):
        checkpoints.save(step, state(step), score)
    checkpoints.save(5, state(0), 0.0)  # a step that is there stays as it is
    checkpoints.wait()
    assert checkpoints.steps() == [3, 5] and checkpoints.latest() == 5 and checkpoints.best() == 3
    restored = TrainState(**checkpoints.restore(like(state(0)), 5))
    jax.tree.map(np.testing.assert_array_equal, restored, state(5))
    assert restored.model_state["mean"].dtype == jnp.bfloat16
    checkpoints.close()


def test_a_reader_leaves_what_is_being_written(tmp_path: Path):
    writer = Checkpoints(tmp_path, keep=2)
    writer.save(1, state(1))
    writer.close()
    unfinished = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    assert Checkpoints(tmp_path).steps() == [1] and unfinished.exists()
    again = Checkpoints(tmp_path, keep=2)  # a new writer: the old one is dead
    again.save(2, state(2))
    again.close()
    assert Checkpoints(tmp_path).steps() == [1, 2]


def test_compare_has_three_columns_missing_unexpected_reshaped():
    wanted = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4), "same": jnp.zeros(1)}
    stored = {"a": jnp.zeros((3, 2)), "c": jnp.zeros(5, jnp.int32), "same": jnp.zeros(1)}
    assert compare(wanted, stored) == [
        ("a", "float32[3, 2]", "float32[2, 3]"),
        ("b", "-", "float32[4]"),
        ("c", "int32[5]", "-"),
    ]
