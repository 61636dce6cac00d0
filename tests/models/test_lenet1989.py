# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.inspect.summary import summarize
from cnnjax.models import get_model
from cnnjax.models.check import check_model
from cnnjax.models.lenet1989 import H2_MAPS

MODEL = get_model("lenet1989", {}, num_classes=10)


RNG = np.random.default_rng(0)
SHAPES = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1))))[0]
PARAMS = jax.tree.map(lambda x: RNG.normal(0, 0.2, x.shape).astype(x.dtype), SHAPES)
IMAGE = jnp.asarray(RNG.normal(0, 1, (8, 16, 16, 1)), jnp.float32)


def test_parameters_and_connections_of_the_paper():
    summary = summarize(MODEL, (16, 16, 1), "lenet1989")
    layers = {layer.name: layer for layer in summary.layers if layer.params}
    assert {name: layer.params for name, layer in layers.items()} == {
        "h1": 1_068, "h2": 2_592, "h3": 5_790, "output": 310,
    }  # fmt: skip
    assert summary.params == 9_760
    # A connection is a multiply-add, or the bias of a unit.
    units = {name: int(np.prod(layer.output_shape)) for name, layer in layers.items()}
    assert units == {"h1": 768, "h2": 192, "h3": 30, "output": 10}
    assert {name: layer.macs + units[name] for name, layer in layers.items()} == {
        "h1": 19_968, "h2": 38_592, "h3": 5_790, "output": 310,
    }  # fmt: skip
    assert summary.macs + sum(units.values()) == 64_660


def test_shapes_of_figure_3():
    outputs, _ = jax.eval_shape(lambda x: MODEL.apply(PARAMS, {}, x, train=False), jnp.zeros((2, 16, 16, 1)))
    shapes = {name: value.shape for name, value in outputs.items()}
    assert shapes == {"h1": (2, 8, 8, 12), "h2": (2, 4, 4, 12), "h3": (2, 30), "logits": (2, 10)}


def test_h2_sees_eight_maps_each_and_every_map_equally_often():

    def h2(weight):  # of one tap of each map of H1
        changed = {**PARAMS, "h1": {**PARAMS["h1"], "kernel": PARAMS["h1"]["kernel"] * weight.reshape(1, 1, 1, 12)}}
        return MODEL.apply(changed, {}, IMAGE[:1], train=False)[0]["h2"].sum((0, 1, 2))

    seen = np.asarray(jax.jit(jax.jacobian(h2))(jnp.ones(12))) != 0  # [12,12]
    assert (seen.sum(1) == 8).all() and (seen.sum(0) == 8).all()
    for unit in range(12):
        assert set(np.flatnonzero(seen[unit])) == set(H2_MAPS[unit // 4])


def test_a_unit_has_its_own_bias_and_the_border_is_background():
    params = {**PARAMS, "h1": {**PARAMS["h1"], "bias": jnp.zeros((8, 8, 12)).at[0, 0, 0].set(0.5)}}
    kernel = np.asarray(params["h1"]["kernel"])[:, :, 0, 0]
    for background in (-1.0, 0.25):
        model = get_model("lenet1989", {"background": background}, num_classes=10)
        image = jnp.full((1, 16, 16, 1), 2.0)
        h1 = jax.jit(lambda x, m=model: m.apply(params, {}, x, train=False)[0]["h1"])(image)[0, :, :, 0]
        window = np.full((5, 5), background)
        window[2:, 2:] = 2.0  # the first unit's window hangs over the corner by two pixels
        corner, inside = 0.5 + (kernel * window).sum(), 2.0 * kernel.sum()
        np.testing.assert_allclose(h1[0, 0], 1.7159 * np.tanh(2 / 3 * corner), rtol=1e-5)
        np.testing.assert_allclose(h1[1:7, 1:7], np.full((6, 6), 1.7159 * np.tanh(2 / 3 * inside)), rtol=1e-5)


def test_weights_start_within_2_4_by_fan_in():
    params, _ = jax.jit(MODEL.init)(jax.random.key(0, impl="rbg"), IMAGE[:1])
    for name, fan_in in {"h1": 25, "h2": 200, "h3": 192, "output": 30}.items():
        largest = float(jnp.abs(params[name]["kernel"]).max())
        assert 2.4 / fan_in * 0.95 < largest <= 2.4 / fan_in, name


def test_outputs_are_squashed():
    params = jax.tree.map(lambda x: 100 * x, PARAMS)
    logits = jax.jit(lambda x: MODEL.apply(params, {}, x, train=False)[0]["logits"])(IMAGE)
    assert float(jnp.abs(logits).max()) <= 1.7159 and float(logits.min()) < -1 and float(logits.max()) > 1


def test_the_contract_is_kept_at_any_size():
    for size in (16, 9, 1):
        check_model(MODEL, (size, size, 1), 10, name="lenet1989")
