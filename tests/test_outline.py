# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import devices
from cnnjax.models.resnet import resnet_cifar
from cnnjax.outline import run_outlined
from cnnjax.types import TrainState


def test_the_numbers_are_those_of_the_whole_program():
    model = resnet_cifar(num_classes=3, depth=8, shortcut="B")
    key, image = jax.random.key(7), jnp.zeros((2, 8, 8, 3))
    outlined = run_outlined(model.init, key, image, sharding=devices.replicated(devices.make_mesh()))
    whole = jax.jit(model.init)(key, image)
    assert jax.tree.structure(outlined) == jax.tree.structure(whole)
    for ours, wanted in zip(jax.tree.leaves(outlined), jax.tree.leaves(whole), strict=True):
        assert ours.dtype == wanted.dtype and len(ours.sharding.device_set) == jax.device_count()
        np.testing.assert_allclose(ours, wanted, rtol=1e-6, atol=1e-7)


def test_each_shape_is_compiled_once_and_nothing_is_shared():
    calls = 0

    @jax.jit
    def draw(key):
        nonlocal calls
        calls += 1
        return jax.random.normal(key, (4, 3))

    def program(key, unused):
        drawn = [draw(jax.random.fold_in(key, i)) for i in range(5)]
        return TrainState(jnp.zeros((), jnp.int32), drawn, {"twice": drawn[0]}, (unused * 2).shape[0] * drawn[1], 3)

    state = run_outlined(program, jax.random.key(0), jnp.ones(6))
    assert calls == 1 and float(state.opt_state[0, 0]) == 6 * float(state.params[1][0, 0])
    alone = jax.random.normal(jax.random.fold_in(jax.random.key(0), 2), (4, 3))
    np.testing.assert_allclose(state.params[2], alone, rtol=1e-6)  # another level of optimisation than the tests'
    first, second = state.params[0], state.model_state["twice"]
    assert first.unsafe_buffer_pointer() != second.unsafe_buffer_pointer()  # so that both can be donated


def test_what_only_gives_shapes_is_not_run():
    def program(x):
        jax.pure_callback(lambda v: 1 / 0, jax.ShapeDtypeStruct((), jnp.float32), x)
        return x + 1

    assert float(run_outlined(program, jnp.zeros(()))) == 1
