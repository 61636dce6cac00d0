# SPDX-License-Identifier: Apache-2.0
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers import avg_pool2d, conv2d, max_pool2d
from cnnjax.models.adapter import from_linen
from cnnjax.see.top import crop, find_sights, find_top
from cnnjax.types import Model

PLUS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
RNG = np.random.default_rng(0)


def plain(apply) -> Model:
    """A network without parameters, of plain functions."""

    def run(params, model_state, image, *, train, key=None):
        return apply(image), model_state

    return Model(lambda key, image: ({}, {}), run)


def detector(image):
    """A channel that is 9 where a plus of ones stands on zeros, and lower for anything else; another that is 0."""
    kernel = jnp.asarray(np.where(PLUS, 1.8, -1.0), jnp.float32).reshape(3, 3, 1, 1)
    found = conv2d(image.astype(jnp.float32), jnp.concatenate([kernel, 0 * kernel], -1), padding=1)
    return {"plus": found, "logits": found.max(axis=(1, 2))}


def planted(places: list[tuple[int, int, int]], num: int = 40) -> np.ndarray:
    """Images of scattered single ones, and a plus around (row, column) of some."""
    images = (RNG.random((num, 12, 12, 1)) < 0.05).astype(np.uint8)
    for i, row, column in places:
        images[i, row - 2 : row + 3, column - 2 : column + 3] = 0
        images[i, row - 1 : row + 2, column - 1 : column + 2, 0] = PLUS
    return images


def test_a_planted_pattern_is_the_patch_that_excites_its_detector():
    places = [(3, 5, 7), (17, 2, 2), (31, 9, 4)]
    image = planted(places)
    top = find_top(lambda variables, x: detector(x), (), image, k=3, batch_size=7)["plus"]
    np.testing.assert_array_equal(top.index[0], [3, 17, 31])
    np.testing.assert_array_equal(top.place[0], [[5, 7], [2, 2], [9, 4]])
    np.testing.assert_allclose(top.value[0], 9)
    sight = find_sights(plain(detector), {}, {}, (12, 12, 1), ["plus"])["plus"]
    for index, place in zip(top.index[0], top.place[0], strict=True):
        np.testing.assert_array_equal(crop(image[index], sight.box[tuple(place)])[..., 0], PLUS)
        np.testing.assert_array_equal(sight.center[tuple(place)], place)


@pytest.mark.parametrize("batch_size", [1, 4, 23, 64])
def test_streaming_is_a_sort_of_everything_whatever_the_batch(batch_size):
    # Few different values: ties abound, within batches and between them.
    maps = RNG.integers(0, 4, (23, 3, 5, 6)).astype(np.float32)
    image = np.arange(23, dtype=np.uint8).reshape(23, 1, 1, 1)

    def look_up(variables, image):
        found = variables[image[:, 0, 0, 0].astype(jnp.int32)]
        return {"map": found, "vector": found[:, 1, 2]}

    found = find_top(look_up, jnp.asarray(maps), image, k=8, batch_size=batch_size)
    rows = maps.reshape(23, 15, 6)
    for name, value in (("map", rows.max(axis=1)), ("vector", maps[:, 1, 2])):
        top = found[name]
        for channel in range(6):
            order = sorted(range(23), key=lambda i, v=value[:, channel]: (-v[i], i))[:8]
            np.testing.assert_array_equal(top.index[channel], order)
            np.testing.assert_array_equal(top.value[channel], value[order, channel])
            places = [divmod(int(rows[i, :, channel].argmax()), 5) for i in order] if name == "map" else [(0, 0)] * 8
            np.testing.assert_array_equal(top.place[channel], places)
        np.testing.assert_allclose(top.spread, value.std(axis=0, dtype=np.float64))


def test_fewer_images_than_asked_for_are_all_there():
    top = find_top(lambda variables, x: {"x": x}, (), np.array([[[[5]]], [[[9]]]], np.uint8), k=9, batch_size=256)["x"]
    np.testing.assert_array_equal(top.index, [[1, 0]])
    np.testing.assert_array_equal(top.value, [[9, 5]])


class Net(nn.Module):
    @nn.compact
    def __call__(self, image, *, train):
        outputs = {}
        x = outputs["a"] = nn.tanh(nn.Conv(3, (3, 3), padding=1)(image))
        x = outputs["b"] = avg_pool2d(x, 2)
        x = outputs["c"] = nn.tanh(nn.Conv(4, (3, 3), strides=2, padding=[(0, 1), (1, 0)])(x))
        x = outputs["d"] = x + nn.Conv(4, (3, 3), kernel_dilation=2, padding=2)(x)
        outputs["logits"] = nn.Dense(2)(x.mean(axis=(1, 2)))
        return outputs


def test_a_crop_holds_every_pixel_with_a_gradient_and_is_tight():
    model, shape = from_linen(Net()), (14, 16, 1)
    image = jnp.asarray(RNG.random((1, *shape)), jnp.float32)
    params, state = jax.jit(model.init)(jax.random.key(0), image)
    sights = find_sights(model, params, state, shape, ["a", "b", "c", "d", "logits"])

    @jax.jit
    @jax.jacrev
    def places(image):
        outputs = model.apply(params, state, image, train=False)[0]
        return {name: outputs[name].reshape(-1, outputs[name].shape[-1]).sum(axis=-1) for name in sights}

    for name, gradient in places(image).items():
        seen = np.abs(np.asarray(gradient))[:, 0, ..., 0] > 0
        assert len(seen) == sights[name].box[..., 0].size
        for pixels, box in zip(seen, sights[name].box.reshape(-1, 4), strict=True):
            rows, columns = np.nonzero(pixels)
            np.testing.assert_array_equal(box, [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])


def test_the_middle_of_a_field_that_the_border_cuts_lies_where_the_whole_field_has_it():
    def apply(image):
        pooled = max_pool2d(image, 4)
        return {"pooled": pooled, "wide": conv2d(pooled, jnp.ones((3, 3, 1, 1)), padding=1), "logits": pooled[:, 0, 0]}

    sights = find_sights(plain(apply), {}, {}, (16, 16, 1), ["pooled", "wide"])
    # Each of the 4x4 places of a 4x4 pooling has its middle 1.5, 5.5, 9.5 or 13.5 pixels in, whatever it sees around.
    expected = np.stack(np.meshgrid(*[[1.5, 5.5, 9.5, 13.5]] * 2, indexing="ij"), -1)
    np.testing.assert_array_equal(sights["wide"].center, expected)
    np.testing.assert_array_equal(sights["pooled"].center, expected)
    np.testing.assert_array_equal(sights["wide"].box[0, 3], [0, 8, 8, 16])
