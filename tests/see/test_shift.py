# SPDX-License-Identifier: Apache-2.0
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.see.shift import rolled, rotated, scaled, sensitivity, shifted
from cnnjax.types import Model

IMAGE = jax.random.uniform(jax.random.key(0), (12, 8, 8, 2))
LABEL = np.arange(12) % 3
MIX = jax.random.normal(jax.random.key(1), (2, 5))
DENSE = jax.random.normal(jax.random.key(2), (128, 3))
HEAD = jax.random.normal(jax.random.key(3), (5, 3))


def network(apply):
    def whole(params, model_state, image, *, train, key=None):
        return apply(image), model_state

    return Model(lambda key, image: ({}, {}), whole)


def pooled(image):
    hidden = jax.nn.relu(jnp.einsum("bhwc,ck->bhwk", image, MIX))
    features = hidden.mean(axis=(1, 2))
    return {"hidden": hidden, "features": features, "logits": features @ HEAD}


def dense(image):
    return {"logits": image.reshape(image.shape[0], -1) @ DENSE}


def measure(apply, move, amount, layers=(), image=IMAGE, **more):
    return sensitivity(network(apply), {}, {}, image, LABEL[: len(image)], move, amount, layers, **more)


def test_global_pooling_of_1x1_convolutions_does_not_see_a_circular_shift_and_a_dense_layer_does():
    found = measure(pooled, rolled, [0, 1, 3], ["hidden", "features"])
    np.testing.assert_allclose(found.distance["features"], 0, atol=1e-5)  # rounding of sums
    np.testing.assert_allclose(found.distance["logits"], 0, atol=1e-5)
    np.testing.assert_array_equal(found.agreement, 1)
    assert (found.distance["hidden"][1:] > 0.5).all()  # the maps move with the image

    found = measure(dense, rolled, [0, 1, 3])
    assert (found.distance["logits"][1:] > 0.5).all() and (np.asarray(found.agreement)[1:] < 1).all()


def test_what_enters_at_the_border_is_seen_even_then():
    assert measure(pooled, shifted(3), [3]).distance["logits"][0] > 0.01


def test_max_pooling_feels_a_shift_less_than_a_stride_does():
    """A lone bright pixel in each 4x4 cell, at an even place: moved by one it stays in its 2x2 window."""
    places = jax.random.randint(jax.random.key(4), (12, 2, 2), 0, 2) * 2
    image = np.zeros((12, 8, 8, 1), np.float32)
    for b, (dy, dx) in enumerate(places.reshape(12, 4)[:, :2].tolist()):
        image[b, 4 + dy, 4 + dx] = 1

    def halve(image):
        largest = image.reshape(-1, 4, 2, 4, 2, 1).max(axis=(2, 4))
        return {"max": largest, "stride": image[:, ::2, ::2]}

    def right(image, amount, turn):
        return jnp.roll(image, amount.astype(jnp.int32), axis=2)

    found = measure(halve, right, [0, 1], ["max", "stride"], jnp.asarray(image))
    assert found.agreement is None and found.accuracy is None
    np.testing.assert_array_equal(found.distance["max"], [0, 0])  # the maximum has not moved
    assert found.distance["stride"][1] > 0.5  # the pixel has fallen between the samples


@pytest.mark.parametrize(
    ("move", "nothing"), [(shifted(2), 0), (rolled, 0), (rotated(), 0), (scaled(), 1)], ids=lambda x: None
)
def test_no_move_is_no_distance(move, nothing):
    found = measure(pooled, move, [nothing], ["hidden"])
    for value in found.distance.values():
        np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_array_equal(found.agreement, 1)


def test_another_image_is_at_distance_1_and_the_batch_size_does_not_matter():
    """Each image becomes the next one: the mean over all such pairs is that of different images."""
    found = [measure(pooled, lambda image, amount, turn: jnp.roll(image, 1, axis=0), [1], ["hidden"], batch_size=12)]
    np.testing.assert_allclose(found[0].distance["input"], 1, atol=0.1)
    large, small = (
        measure(pooled, shifted(3), [0, 1, 3], ["hidden"], batch_size=size, image=IMAGE + 100) for size in (12, 5)
    )
    for name, value in large.distance.items():
        np.testing.assert_allclose(small.distance[name], value, rtol=2e-3)
    np.testing.assert_array_equal(small.agreement, large.agreement)


def test_the_distance_is_in_units_of_that_between_images():
    flat = jnp.arange(4.0).reshape(4, 1, 1, 1)  # root mean square distance of two different ones: sqrt(10 / 3)
    found = measure(lambda image: {}, lambda image, amount, turn: image + amount, [1, 2], image=flat)
    np.testing.assert_allclose(found.distance["input"], np.array([1, 2]) / np.sqrt(10 / 3), rtol=1e-6)


def test_accuracy_and_agreement_are_counted_apart():
    def sign(image):
        return {"logits": jnp.concatenate([image.mean(axis=(1, 2))[:, :1] * k for k in (-1, 1)], axis=1)}

    image = jnp.array([1.0, 2.0, -1.0, -2.0]).reshape(4, 1, 1, 1)  # answers 1 1 0 0; labels 0 1 2 0
    found = measure(sign, lambda image, amount, turn: image + amount, [0, 1.5, 9], image=image)
    assert found.agreement is not None and found.accuracy is not None
    np.testing.assert_allclose(found.agreement, [1, 0.75, 0.5])
    np.testing.assert_allclose(found.accuracy, [0.5, 0.5, 0.25])


def test_images_take_the_four_directions_in_turn_and_the_nearest_pixel_enters():
    image = jnp.broadcast_to(jnp.arange(9.0).reshape(1, 3, 3, 1), (4, 3, 3, 1))
    right, left, down, up = shifted(2)(image, jnp.float32(1), jnp.arange(4))[..., 0].astype(int).tolist()
    assert right == [[0, 0, 1], [3, 3, 4], [6, 6, 7]] and left == [[1, 2, 2], [4, 5, 5], [7, 8, 8]]
    assert down == [[0, 1, 2], [0, 1, 2], [3, 4, 5]] and up == [[3, 4, 5], [6, 7, 8], [6, 7, 8]]
    black = shifted(2, np.zeros((1, 1, 1), np.float32))(image + 1, jnp.float32(1), jnp.arange(4))
    assert black[0, :, :, 0].astype(int).tolist() == [[0, 1, 2], [0, 4, 5], [0, 7, 8]]
    wrapped = rolled(image, jnp.float32(1), jnp.arange(4))
    assert wrapped[0, :, :, 0].astype(int).tolist() == [[2, 0, 1], [5, 3, 4], [8, 6, 7]]


def test_rotation_turns_every_other_image_back_and_scale_magnifies():
    image = jnp.zeros((2, 5, 5, 1)).at[:, 2, 4].set(1)
    turned = jax.jit(rotated())(image, jnp.float32(90), jnp.arange(2))
    assert np.unravel_index(turned[0].argmax(), (5, 5)) == (0, 2)  # counter-clockwise: from the right to the top
    assert np.unravel_index(turned[1].argmax(), (5, 5)) == (4, 2)
    near = jnp.zeros((1, 5, 5, 1)).at[:, 2, 3].set(1)
    assert float(jax.jit(scaled())(near, jnp.float32(2), jnp.arange(1))[0, 2, 4, 0]) == pytest.approx(1)


def test_errors_name_what_there_is():
    with pytest.raises(UsageError, match="did you mean 'hidden'"):
        measure(pooled, rolled, [1], ["hiden"])
    with pytest.raises(UsageError, match="two or more"):
        measure(pooled, rolled, [1], image=IMAGE[:1])


def test_a_network_that_says_the_same_of_all_images_moves_by_nothing():
    found = measure(partial(lambda image: {"logits": jnp.zeros((len(image), 2))}), rolled, [1])
    np.testing.assert_array_equal(found.distance["logits"], [0])
