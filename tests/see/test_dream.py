# SPDX-License-Identifier: Apache-2.0
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import RunError, UsageError
from cnnjax.models.simple_cnn import simple_cnn
from cnnjax.see.canvas import frequency_canvas, pixel_canvas, total_variation
from cnnjax.see.dream import dream, unit_values
from cnnjax.types import Model

SIZE = (8, 8, 3)
PLAIN: dict[str, Any] = {"mean": np.float32(0.4), "std": np.float32(0.25)}
STILL: dict[str, Any] = {"jitter": 0, "rotate": 0.0}


def linear_apply(params, model_state, image, *, train, key=None):
    del train, key
    rows = image.reshape(image.shape[0], -1)
    return {"map": image[:, :, :, :2] * 3.0, "logits": rows @ params}, model_state


LINEAR = Model(lambda key, image: (jnp.zeros(()), {}), linear_apply)
WEIGHTS = jax.random.normal(jax.random.key(7), (int(np.prod(SIZE)), 3))
dream_linear = partial(dream, LINEAR, WEIGHTS, {}, **PLAIN)


def logits(pixel):
    return np.asarray(linear_apply(WEIGHTS, {}, (jnp.asarray(pixel) - 0.4) / 0.25, train=False)[0]["logits"])


def test_the_dream_of_a_linear_unit_is_the_sign_of_its_weights():
    units = np.array([2, 0])
    found = dream_linear("logits", units, jax.random.key(0), canvas=pixel_canvas(SIZE), num_steps=60, **STILL)
    expected = np.asarray(WEIGHTS[:, units] > 0).T.reshape(-1, *SIZE).astype(np.float32)
    np.testing.assert_array_equal(found.pixel, expected)  # clipped: white where the weight is above 0, else black
    np.testing.assert_allclose(found.activation, np.diag(logits(expected)[:, units]), rtol=1e-5)
    assert found.history.shape == (60, 2) and found.history[-1][0] > found.history[0][0]


def test_a_dream_of_frequencies_excites_far_more_than_images_do():
    canvas = frequency_canvas(SIZE)
    found = dream_linear("logits", [0, 1, 2], jax.random.key(0), canvas=canvas, num_steps=120, **STILL)
    random = logits(jax.random.uniform(jax.random.key(3), (500, *SIZE)))
    assert (found.activation > random.max(axis=0) + 4 * random.std(axis=0)).all()
    assert found.pixel.min() >= 0 and found.pixel.max() <= 1


def test_priors_make_a_dream_smoother():
    def roughness(canvas, **more):
        # few steps, and the weight of the variation in units of what the unit can reach
        found = dream_linear("logits", [0], jax.random.key(0), canvas=canvas, num_steps=40, scale=50.0, **more, **STILL)
        return float(total_variation(jnp.asarray(found.pixel))[0]), found.activation[0]

    rough, highest = roughness(pixel_canvas(SIZE))
    smooth, lower = roughness(pixel_canvas(SIZE), smoothness=10.0)
    broad, _ = roughness(frequency_canvas(SIZE))
    assert smooth < 0.7 * rough and broad < 0.8 * rough
    assert 0 < lower < highest


def test_the_same_key_gives_the_same_dream_bit_for_bit_and_another_key_another():
    once = partial(dream_linear, "logits", canvas=pixel_canvas(SIZE), num_steps=5, rotate=0.0)
    first, again, other = (once([0, 1], jax.random.key(seed)).pixel for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    alone = once([1], jax.random.key(0)).pixel
    np.testing.assert_allclose(alone[0], first[1], atol=1e-5)  # nor does it matter which units are dreamt with it


def test_the_mean_of_a_map_lights_all_of_it_and_the_centre_one_pixel():
    maps = partial(dream_linear, "map", [1], jax.random.key(0), canvas=pixel_canvas(SIZE, 0.3, noise=0.0), **STILL)
    everywhere, middle = maps(num_steps=40).pixel[0], maps(num_steps=40, place="center").pixel[0]
    np.testing.assert_array_equal(everywhere[..., 1], 1)
    expected = np.full((8, 8), 0.3, np.float32)
    expected[4, 4] = 1
    np.testing.assert_allclose(middle[..., 1], expected, atol=1e-6)
    for pixel in (everywhere, middle):
        np.testing.assert_allclose(pixel[..., [0, 2]], 0.3, atol=1e-6)  # of another channel: left alone


def test_jitter_lets_the_border_count_as_well():
    """Moved by one pixel at random, the neuron in the middle sees its neighbours in turn; unmoved, one pixel."""
    moved = dream_linear(
        "map", [0], jax.random.key(0), canvas=pixel_canvas(SIZE, 0.3), place="center", jitter=1, rotate=0.0
    )
    bright = np.argwhere(moved.pixel[0, ..., 0] > 0.99)
    np.testing.assert_array_equal(bright, [(y, x) for y in (3, 4, 5) for x in (3, 4, 5)])


def test_a_convolutional_network_of_linen():
    model = simple_cnn(num_classes=4, widths=(4,), dense=8)
    params, state = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *SIZE)))
    image = (jax.random.uniform(jax.random.key(1), (64, *SIZE)) - 0.4) / 0.25
    usual = np.asarray(jax.jit(partial(model.apply, train=False))(params, state, image)[0]["logits"])
    found = dream(
        model, params, state, "logits", [0, 3], jax.random.key(0), canvas=frequency_canvas(SIZE), num_steps=60, **PLAIN
    )
    assert (found.activation > usual.max(axis=0)[[0, 3]]).all()


def test_a_unit_that_is_off_at_first_is_woken_by_stronger_noise():
    def apply(params, model_state, image, *, train, key=None):
        del params, train, key
        contrast = image[:, 2, 2, :1] - image[:, 5, 5, :1]
        return {"on": contrast, "off": jax.nn.relu(contrast - 1.0)}, model_state  # off unless pixels differ by 0.25

    model = Model(lambda key, image: ({}, {}), apply)
    found = dream(model, {}, {}, "off", [0], jax.random.key(0), canvas=pixel_canvas(SIZE), **PLAIN, **STILL)
    np.testing.assert_allclose(found.activation, 1 / 0.25 - 1.0, rtol=1e-5)  # one white, the other black
    flat = dream(model, {}, {}, "on", [0], jax.random.key(0), canvas=pixel_canvas(SIZE), num_steps=0, **PLAIN)
    assert abs(flat.activation[0]) < 1  # the noise that all begin with would leave it off


def test_values_of_units_by_hand():
    value = jnp.arange(2 * 3 * 3 * 2.0).reshape(2, 3, 3, 2)
    np.testing.assert_allclose(unit_values(value, "mean"), [[8, 9], [26, 27]])
    np.testing.assert_allclose(unit_values(value[:, :2, :2], "center"), [[8, 9], [26, 27]])
    np.testing.assert_allclose(unit_values(value[:, 0, 0], "center"), [[0, 1], [18, 19]])
    with pytest.raises(UsageError, match="unknown place 'middle'"):
        unit_values(value, "middle")


def test_errors_name_what_there_is():
    with pytest.raises(UsageError, match="did you mean 'logits'"):
        dream_linear("logit", [0], jax.random.key(0), canvas=pixel_canvas(SIZE))
    with pytest.raises(UsageError, match="units 0 to 2, but no unit 3"):
        dream_linear("logits", [0, 3], jax.random.key(0), canvas=pixel_canvas(SIZE))
    with pytest.raises(RunError, match="not finite"):
        dream(
            LINEAR, WEIGHTS * jnp.nan, {}, "logits", [0], jax.random.key(0), canvas=pixel_canvas(SIZE), num_steps=0,
            **PLAIN,
        )  # fmt: skip
