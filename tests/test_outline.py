# SPDX-License-Identifier: Apache-2.0
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import devices
from cnnjax.models.resnet import resnet_cifar
from cnnjax.outline import _CPU_OPTIONS, _run, outlined
from cnnjax.types import TrainState


def test_the_numbers_are_those_of_the_whole_program():
    model = resnet_cifar(num_classes=3, depth=8, shortcut="B")
    key, image = jax.random.key(7), jnp.zeros((2, 8, 8, 3))
    ours = outlined(model.init, sharding=devices.replicated(devices.make_mesh()))(key, image)
    whole = jax.jit(model.init)(key, image)
    assert jax.tree.structure(ours) == jax.tree.structure(whole)
    for drawn, wanted in zip(jax.tree.leaves(ours), jax.tree.leaves(whole), strict=True):
        assert drawn.dtype == wanted.dtype and len(drawn.sharding.device_set) == jax.device_count()
        np.testing.assert_allclose(drawn, wanted, rtol=1e-6, atol=1e-7)


def test_each_shape_is_computed_in_one_place_and_nothing_is_shared():
    @jax.jit
    def draw(key):
        return jax.random.normal(key, (4, 3))

    def program(key, unused):
        drawn = [draw(jax.random.fold_in(key, i)) for i in range(5)]
        return TrainState(jnp.zeros((), jnp.int32), drawn, {"twice": drawn[0]}, (unused * 2).shape[0] * drawn[1], 3)

    key, unused = jax.random.key(0), jnp.ones(6)
    run = outlined(program)
    assert str(jax.make_jaxpr(program)(key, unused)).count("draw") > 1
    looped = str(jax.make_jaxpr(partial(_run, program))(1, key, unused))
    # One loop over the five draws; five of a single turn would be while loops.
    assert looped.count("scan[") == looped.count("random_fold_in") == 1 and "while[" not in looped
    state = run(key, unused)
    assert float(state.opt_state[0, 0]) == 6 * float(state.params[1][0, 0])
    for i in range(5):
        alone = jax.random.normal(jax.random.fold_in(key, i), (4, 3))
        np.testing.assert_allclose(state.params[i], alone, rtol=1e-6)  # another level of optimisation than the tests'
    first, second = state.params[0], state.model_state["twice"]
    assert first.unsafe_buffer_pointer() != second.unsafe_buffer_pointer()  # so that both can be donated


@pytest.mark.optimized
def test_a_draw_is_the_same_alone_and_among_others():
    draw = jax.jit(jax.random.normal, static_argnums=1)

    def program(keys):
        return [0.1 * draw(key, (64, 3)) for key in keys]

    keys = jax.random.split(jax.random.key(0), 3)
    many, one = outlined(program)(keys), outlined(program)(keys[:1])
    np.testing.assert_array_equal(many[0], one[0])
    alone = jax.jit(lambda key: jax.random.normal(key, (64, 3)), compiler_options=_CPU_OPTIONS)(keys[0])
    np.testing.assert_array_equal(one[0], 0.1 * np.asarray(alone))  # drawn first, then scaled


def test_calls_of_calls_and_keys():
    split = jax.jit(jax.random.split)

    def program(key):
        one, other = split(key)  # a single call
        first = jax.random.normal(one, (2,))
        return first, jax.nn.relu(jax.random.normal(other, (2,)) + first)

    for ours, wanted in zip(outlined(program)(jax.random.key(3)), program(jax.random.key(3)), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-6)


def test_what_only_gives_shapes_is_not_run():
    def program(x):
        jax.pure_callback(lambda v: 1 / 0, jax.ShapeDtypeStruct((), jnp.float32), x)
        return x + 1

    assert float(outlined(program)(jnp.zeros(()))) == 1
