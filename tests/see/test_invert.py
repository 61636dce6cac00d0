# SPDX-License-Identifier: Apache-2.0
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import RunError, UsageError
from cnnjax.see.canvas import frequency_canvas, pixel_canvas, total_variation
from cnnjax.see.invert import invert, psnr
from cnnjax.types import Model

SIZE = (8, 8, 1)
PLAIN = {"mean": np.float32(0.4), "std": np.float32(0.25)}
TURN = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0], jnp.float32)
IMAGE = jax.random.uniform(jax.random.key(5), (2, *SIZE))


def apply(params, model_state, image, *, train, key=None):
    del train, key
    rows = image.reshape(image.shape[0], -1)
    pooled = image.reshape(-1, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    return {"same": image, "turned": rows @ params, "pooled": pooled, "nothing": rows * 0.0}, model_state


MODEL = Model(lambda key, image: (TURN, {}), apply)
invert_here = partial(invert, MODEL, TURN, {}, **PLAIN)
TARGET = apply(TURN, {}, (IMAGE - 0.4) / 0.25, train=False)[0]


@pytest.mark.parametrize("layer", ["same", "turned"])
def test_what_loses_nothing_gives_the_image_back(layer):
    found = invert_here(layer, TARGET[layer], jax.random.key(0), canvas=pixel_canvas(SIZE), num_steps=150)
    assert (psnr(found.pixel, np.asarray(IMAGE)) > 50).all()
    assert (found.relative_error < 0.005).all()


def test_the_frequencies_find_it_too():
    found = invert_here("same", TARGET["same"], jax.random.key(0), canvas=frequency_canvas(SIZE), num_steps=300)
    assert (psnr(found.pixel, np.asarray(IMAGE)) > 30).all()


def test_what_is_pooled_away_does_not_come_back():
    found = invert_here("pooled", TARGET["pooled"], jax.random.key(0), canvas=pixel_canvas(SIZE), num_steps=150)
    assert (found.relative_error < 0.005).all()  # the layer cannot tell it from the image
    assert (psnr(found.pixel, np.asarray(IMAGE)) < 20).all()  # but it is another one

    smooth = invert_here(
        "pooled", TARGET["pooled"], jax.random.key(0), canvas=pixel_canvas(SIZE), num_steps=150, smoothness=0.3
    )
    rough, less = (np.asarray(total_variation(jnp.asarray(each.pixel))) for each in (found, smooth))
    assert (less < 0.8 * rough).all()  # the prior decides where the layer does not


def test_broad_forms_first_ends_at_the_same_image():
    found = invert_here(
        "turned", TARGET["turned"], jax.random.key(0), canvas=frequency_canvas(SIZE, cut=True), smoothness=1e-3,
        coarse=1e3, num_steps=200,
    )  # fmt: skip
    assert (psnr(found.pixel, np.asarray(IMAGE)) > 30).all()
    stopped = invert_here(
        "turned", TARGET["turned"], jax.random.key(0), canvas=frequency_canvas(SIZE, cut=True), smoothness=1.0,
        num_steps=200,
    )  # fmt: skip
    assert (stopped.relative_error > 3 * found.relative_error).all()  # held at the first weight it stays flat


def test_a_silent_representation_is_matched_by_any_image():
    found = invert_here("nothing", TARGET["nothing"], jax.random.key(0), canvas=pixel_canvas(SIZE), num_steps=3)
    np.testing.assert_array_equal(found.relative_error, 0)


def test_the_same_key_gives_the_same_image_bit_for_bit_and_another_key_another():
    once = partial(invert_here, "pooled", TARGET["pooled"], canvas=pixel_canvas(SIZE), num_steps=5)
    first, again, other = (once(jax.random.key(seed)).pixel for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert np.abs(first[0] - first[1]).max() > 1e-3


def test_psnr_by_hand():
    pixel = np.zeros((2, 1, 2, 1))
    np.testing.assert_allclose(psnr(pixel, pixel + np.array([0.1, 0.0]).reshape(2, 1, 1, 1)), [20, np.inf])


def test_errors_name_what_there_is():
    with pytest.raises(UsageError, match="did you mean 'pooled'"):
        invert_here("pool", TARGET["pooled"], jax.random.key(0), canvas=pixel_canvas(SIZE))
    with pytest.raises(RunError, match="not finite"):
        invert_here("same", TARGET["same"] * jnp.nan, jax.random.key(0), canvas=pixel_canvas(SIZE), num_steps=0)
