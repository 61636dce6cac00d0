# SPDX-License-Identifier: Apache-2.0
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.layers import BatchNorm
from cnnjax.models import get_model
from cnnjax.models.adapter import from_linen
from cnnjax.models.frozen import freeze
from cnnjax.patterns import param_paths, selected
from cnnjax.types import Model


class Net(nn.Module):
    """Two normalisations, the second of Flax, and an output."""

    @nn.compact
    def __call__(self, image, *, train: bool):
        x = nn.Dense(3, name="first")(image.reshape(image.shape[0], -1))
        x = BatchNorm(name="bn1")(x, train=train)
        x = nn.Dense(2, name="second")(x)
        x = nn.BatchNorm(name="bn2")(x, use_running_average=not train)
        return {"logits": nn.Dense(2, name="output")(x)}


IMAGE = jax.random.normal(jax.random.key(1), (4, 2, 2, 1))


def started(model: Model) -> Any:
    params, state = jax.jit(model.init)(jax.random.key(0), IMAGE)
    return params, jax.tree.map(lambda x: x + 0.3, state)  # statistics that are not the batch's


def frozen(model: Model, *patterns: str) -> tuple[Model, list[str], Any, Any]:
    params, state = started(model)
    paths = selected(patterns, param_paths(params), "config.freeze")
    return freeze(model, params, paths), paths, params, state


def run(model: Model, params: Any, state: Any, *, train: bool = True) -> Any:
    return jax.jit(partial(model.apply, train=train))(params, state, IMAGE)


def test_frozen_statistics_stay_and_are_used_and_the_others_move():
    model = from_linen(Net())
    held, _, params, state = frozen(model, "first", "bn1")
    outputs, new = run(held, params, state)
    before, after = state["batch_stats"], new["batch_stats"]
    assert all(np.array_equal(after["bn1"][name], before["bn1"][name]) for name in ("mean", "var"))
    assert not np.allclose(after["bn2"]["mean"], before["bn2"]["mean"])
    # The same by hand: bn1 by its running statistics, bn2 by the batch's.
    params, before = jax.tree.map(np.asarray, (params, before))
    x = np.asarray(IMAGE).reshape(4, -1) @ params["first"]["kernel"] + params["first"]["bias"].reshape(1, -1)
    x = (x - before["bn1"]["mean"].reshape(1, -1)) / np.sqrt(before["bn1"]["var"].reshape(1, -1) + 1e-5)
    x = x @ params["second"]["kernel"]
    x = (x - x.mean(0, keepdims=True)) / np.sqrt(x.var(0, keepdims=True) + 1e-5)
    wanted = x @ params["output"]["kernel"] + params["output"]["bias"].reshape(1, -1)
    np.testing.assert_allclose(outputs["logits"], wanted, rtol=1e-4, atol=1e-5)


def test_all_frozen_but_the_output_is_the_evaluated_network():
    model = from_linen(Net())
    held, _, params, state = frozen(model, "*", "!output")
    outputs, new = run(held, params, state)
    np.testing.assert_allclose(outputs["logits"], run(model, params, state, train=False)[0]["logits"])
    jax.tree.map(np.testing.assert_array_equal, new, state)


def test_a_layer_frozen_in_part_keeps_learning_its_statistics():
    held, _, params, state = frozen(from_linen(Net()), "bn1/scale")
    assert not np.allclose(run(held, params, state)[1]["batch_stats"]["bn1"]["mean"], 0.3)


def test_gradients_of_frozen_parameters_are_zero_and_cost_nothing():
    model = from_linen(Net())
    held, paths, params, state = frozen(model, "first", "bn1", "second/kernel")

    def loss(net: Model):
        return lambda params: jnp.sum(net.apply(params, state, IMAGE, train=True)[0]["logits"] ** 2)

    grads = jax.jit(jax.grad(loss(held)))(params)
    flat = dict(zip(param_paths(params), jax.tree.leaves(grads), strict=True))
    assert all(np.any(g) != (path in paths) for path, g in flat.items())

    def products(net: Model) -> int:
        return str(jax.jit(jax.grad(loss(net))).lower(params).compile().as_text()).count(" dot(")

    assert products(held) < products(model)


@pytest.mark.parametrize("scan", [False, True])
def test_residual_networks_even_with_blocks_in_a_loop(scan: bool):
    model = get_model("resnet_cifar", {"depth": 20, "scan": scan}, num_classes=2)
    image = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    params, state = jax.eval_shape(model.init, jax.random.key(0), image)
    paths = selected(("stem*", "stage[12]/*"), param_paths(params), "config.freeze")
    held = freeze(model, params, paths)
    jaxpr = jax.make_jaxpr(lambda p, s, x: held.apply(p, s, x, train=True)[1])(params, state, image)
    number = {id(var): i for i, var in enumerate(jaxpr.jaxpr.invars)}
    given = number.__len__() - 1 - len(jax.tree.leaves(state))
    moved = [
        path
        for i, (path, out) in enumerate(zip(param_paths(state), jaxpr.jaxpr.outvars, strict=True))
        if number.get(id(out)) != given + i
    ]
    if not scan:  # a loop hands its statistics on, unchanged or not
        assert all("stage3" in path for path in moved) and len(moved) == 12


def test_a_kind_of_statistics_that_cannot_be_held_is_told():
    class Counter(nn.Module):
        @nn.compact
        def __call__(self, image, *, train: bool):
            scale = self.param("scale", nn.initializers.ones, (1,))
            seen = self.variable("batch_stats", "seen", jnp.zeros, (1,))
            seen.value = seen.value + 1
            return image * scale.reshape(1, 1, 1, 1)

    class Odd(nn.Module):
        @nn.compact
        def __call__(self, image, *, train: bool):
            x = Counter(name="odd")(image, train=train)
            return {"logits": nn.Dense(2, name="output")(x.reshape(x.shape[0], -1))}

    model = from_linen(Odd())
    params, state = jax.eval_shape(model.init, jax.random.key(0), IMAGE)
    held = freeze(model, params, ["odd/scale"])
    with pytest.raises(UsageError, match="the statistics of odd cannot be held"):
        jax.eval_shape(lambda p, s: held.apply(p, s, IMAGE, train=True), params, state)
