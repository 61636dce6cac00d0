# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.models import get_model
from cnnjax.see.features import activity, layer_shapes, most_active


def test_outputs_in_the_order_of_their_computation_and_the_answer_last():
    model = get_model("simple_cnn", {"widths": (4, 6)}, num_classes=3)
    params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    shapes = layer_shapes(model, params, state, (16, 16, 3))
    expected = {"stage1": (8, 8, 4), "stage2": (4, 4, 6), "features": (256,), "logits": (3,)}
    assert list(shapes.items()) == list(expected.items())


def test_a_constant_map_says_nothing_however_large():
    maps = np.stack([np.full((2, 2), 100.0), [[0, 2], [0, 2]], [[-3, 3], [3, -3]]], axis=-1)
    np.testing.assert_allclose(activity(maps), [0, 1, 3])
    np.testing.assert_array_equal(most_active(maps, 2), [2, 1])
    np.testing.assert_array_equal(most_active(maps, 9), [2, 1, 0])
    np.testing.assert_array_equal(activity(np.array([[[-5.0, 2.0]]])), [5, 2])
