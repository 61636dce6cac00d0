# SPDX-License-Identifier: Apache-2.0
"""Gradients at intermediates and guided ReLUs, against jax.grad on networks cut by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import RunError, UsageError
from cnnjax.layers import relu_of_sum
from cnnjax.models import get_model
from cnnjax.models.adapter import compute_in
from cnnjax.see.program import count_relus, find_layers, with_delta, with_guided_relu
from cnnjax.types import Model

IMAGE = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
PARAMS = {"a": jax.random.normal(jax.random.key(1), (3, 5)), "b": jax.random.normal(jax.random.key(2), (5, 3))}


def of(forward) -> Model:
    """A model in plain jnp: `forward(params, image) -> outputs`."""

    def apply(params, model_state, image, *, train, key=None):
        return forward(params, image), model_state

    return Model(lambda key, image: (PARAMS, {}), apply)


def head(params, hidden):
    return jnp.tanh(hidden).sum(axis=(1, 2)) @ params["b"]


def forward(params, image):
    hidden = jax.nn.relu(image @ params["a"])
    return {"hidden": hidden, "dead": hidden * 2, "logits": head(params, hidden)}


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["plain", "jit", "remat"])
def test_the_gradient_at_an_intermediate_is_that_of_the_network_above_it(wrap):
    apply = with_delta(of(wrap(forward)), "hidden")
    hidden = forward(PARAMS, IMAGE)["hidden"]
    gradient = jax.grad(lambda delta: apply(PARAMS, {}, IMAGE, delta)["logits"].sum())(jnp.zeros_like(hidden))
    expected = jax.grad(lambda hidden: head(PARAMS, hidden).sum())(hidden)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    moved = apply(PARAMS, {}, IMAGE, jnp.ones_like(hidden))
    np.testing.assert_allclose(moved["logits"], head(PARAMS, hidden + 1), rtol=1e-5)
    np.testing.assert_allclose(moved["hidden"], hidden + 1, rtol=1e-6)


def test_a_view_of_a_value_stands_for_that_value():
    def turned(params, image):
        outputs = forward(params, image)
        return {**outputs, "hidden": outputs["hidden"].transpose(0, 3, 1, 2).reshape(2, 5, 16)}

    delta = jax.random.normal(jax.random.key(3), (2, 5, 16))
    moved = with_delta(of(turned), "hidden")(PARAMS, {}, IMAGE, delta)
    inner = forward(PARAMS, IMAGE)["hidden"] + delta.reshape(2, 5, 4, 4).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(moved["logits"], head(PARAMS, inner), rtol=1e-5)


def test_a_network_in_bfloat16_has_gradients_at_its_intermediates():
    apply = with_delta(compute_in(of(forward), "bfloat16"), "hidden")
    gradient = jax.jit(jax.grad(lambda delta: apply(PARAMS, {}, IMAGE, delta)["logits"].sum()))(jnp.zeros((2, 4, 4, 5)))
    expected = jax.grad(lambda hidden: head(PARAMS, hidden).sum())(forward(PARAMS, IMAGE)["hidden"])
    np.testing.assert_allclose(gradient, expected, atol=0.2)
    assert gradient.dtype == jnp.float32 and np.corrcoef(gradient.ravel(), expected.ravel())[0, 1] > 0.99


def test_layers_come_in_the_order_of_computation_and_dead_ends_are_told():
    def forward(params, image):
        first = image @ params["a"]
        second = jnp.tanh(first)
        return {"z_first": first, "logits": head(params, second), "a_second": second, "side": jnp.sin(first)}

    layers = find_layers(of(forward), PARAMS, {}, IMAGE)
    assert [(layer.name, layer.reaches_logits) for layer in layers if layer.name != "side"] == [
        ("z_first", True),
        ("a_second", True),
    ]
    assert {layer.name: layer.reaches_logits for layer in layers}["side"] is False
    with pytest.raises(UsageError, match="'side' does not lie on the way"):
        with_delta(of(forward), "side")(PARAMS, {}, IMAGE, jnp.zeros((2, 4, 4, 5)))
    with pytest.raises(UsageError, match="did you mean 'z_first'"):
        with_delta(of(forward), "first")(PARAMS, {}, IMAGE, jnp.zeros((2, 4, 4, 5)))


def test_a_network_without_logits_is_refused():
    with pytest.raises(RunError, match="no logits"):
        find_layers(of(lambda params, image: {"recon": image}), PARAMS, {}, IMAGE)


def test_a_scanned_network_has_gradients_at_its_stages():
    model = get_model("resnet_cifar", {"depth": 20, "scan": True}, num_classes=4)
    image = jnp.zeros((1, 8, 8, 3))
    params, state = jax.eval_shape(model.init, jax.random.key(0), image)
    layers = {layer.name: layer for layer in find_layers(model, params, state, image)}
    assert list(layers) == ["stem", "stage1", "stage2", "stage3", "features"]
    assert all(layer.reaches_logits for layer in layers.values())
    assert count_relus(model, params, state, image) == 19  # the stem's, and two a block in nine blocks


def relu_by_where(x):
    return jnp.where(x > 0, x, 0)


def relu_in_scan(x):
    return jax.lax.scan(lambda carry, _: (jax.nn.relu(carry), None), x, None, length=1)[0]


def relu_in_cond(x):
    return jax.lax.cond(x.sum() > -1e9, jax.nn.relu, lambda x: x, x)


RELUS = {
    "relu": jax.nn.relu,
    "jit": jax.jit(jax.nn.relu),
    "maximum": lambda x: jnp.maximum(x, 0),
    "swapped": lambda x: jnp.maximum(0.0, x),
    "zeros": lambda x: jnp.maximum(x, jnp.zeros_like(x)),
    "where": relu_by_where,
    "where not": lambda x: jnp.where(x <= 0, 0, x),
    "of a sum": relu_of_sum,
    "remat": jax.checkpoint(jax.nn.relu),
    "scan": relu_in_scan,
    "cond": relu_in_cond,
}


@pytest.mark.parametrize("name", RELUS)
def test_guided_backpropagation_by_hand(name):
    # logits = (relu(x0) - relu(x1) + relu(x2)); x = (2, 3, -1): gradient (1, -1, 0), guided (1, 0, 0).
    weight = jnp.array([[1.0], [-1.0], [1.0]])
    model = of(lambda params, image: {"logits": RELUS[name](image.reshape(1, 3)) @ weight})
    image = jnp.array([2.0, 3.0, -1.0]).reshape(1, 1, 1, 3)

    def gradient(model: Model):
        return jax.jit(jax.grad(lambda image: model.apply({}, {}, image, train=False)[0]["logits"].sum()))(image)

    assert count_relus(model, {}, {}, image) == 1
    np.testing.assert_array_equal(gradient(model).ravel(), [1, -1, 0])
    np.testing.assert_array_equal(gradient(with_guided_relu(model)).ravel(), [1, 0, 0])
    same, plain = (m.apply({}, {}, image, train=False)[0]["logits"] for m in (with_guided_relu(model), model))
    np.testing.assert_array_equal(same, plain)


@pytest.mark.parametrize(
    "activation",
    [jnp.tanh, jax.nn.silu, jax.nn.leaky_relu, lambda x: jnp.maximum(x, 1.0), lambda x: jnp.where(x <= 0, x, 0)],
    ids=range(5),
)
def test_other_nonlinearities_are_no_relu(activation):
    model = of(lambda params, image: {"logits": head(params, activation(image @ params["a"]))})
    assert count_relus(model, PARAMS, {}, IMAGE) == 0


def test_the_variance_of_a_normalisation_is_no_relu():
    def norm(x):
        variance = jnp.maximum((x**2).mean(axis=-1, keepdims=True) - x.mean(axis=-1, keepdims=True) ** 2, 0.0)
        return x * jax.lax.rsqrt(variance + 1e-6)

    model = of(lambda params, image: {"logits": head(params, norm(jax.nn.relu(image @ params["a"])))})
    assert count_relus(model, PARAMS, {}, IMAGE) == 1


def test_a_relu_beside_the_way_to_the_logits_does_not_count():
    model = of(lambda params, image: {"logits": head(params, image @ params["a"]), "side": jax.nn.relu(image)})
    assert count_relus(model, PARAMS, {}, IMAGE) == 0
