# SPDX-License-Identifier: Apache-2.0
"""Grad-CAM by hand, and which layers it takes."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import RunError, UsageError
from cnnjax.see.gradcam import choose_layer, grad_cam, upsample, usable_layers
from cnnjax.types import Model

WEIGHT = jnp.array([[4.0, -4.0], [-8.0, 8.0]])  # [channel, class]


def forward(image):
    maps = image * 2
    pooled = maps.mean(axis=(1, 2))
    return {"maps": maps, "pooled": pooled, "side": maps + 1, "logits": pooled @ WEIGHT}


def of(forward) -> Model:
    return Model(
        lambda key, image: ({}, {}),
        lambda params, model_state, image, *, train, key=None: (forward(image), model_state),
    )


MODEL = of(forward)
IMAGE = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.5], [0.0, 0.0]]])[None]  # [1,2,2,2]


def test_grad_cam_by_hand():
    (layer,) = usable_layers(MODEL, {}, {}, IMAGE)
    # d logit_0 / d maps = (4, -8) / 4 places; sum over channels of (1, -2) * 2 * image, cut at 0.
    found = grad_cam(MODEL, {}, {}, IMAGE, np.array([0]), layer)
    np.testing.assert_allclose(found[0], [[2, 0], [2, 0]], atol=1e-6)
    other = grad_cam(MODEL, {}, {}, IMAGE, np.array([1]), layer)
    np.testing.assert_allclose(other[0], [[0, 4], [0, 0]], atol=1e-6)


def test_each_image_of_a_batch_has_its_own_map_and_class():
    (layer,) = usable_layers(MODEL, {}, {}, IMAGE)
    both = grad_cam(MODEL, {}, {}, jnp.concatenate([IMAGE, 3 * IMAGE]), np.array([0, 1]), layer)
    np.testing.assert_allclose(both, [[[2, 0], [2, 0]], [[0, 12], [0, 0]]], atol=1e-5)


def test_the_last_map_on_the_way_is_the_default():
    def deeper(image):
        outputs = forward(image)
        last = jnp.tanh(outputs["maps"])
        vector = last.mean(axis=(1, 2), keepdims=True)  # one place: not a map
        return {**outputs, "a_last": last, "vector": vector, "logits": vector[:, 0, 0] @ WEIGHT}

    layers = usable_layers(of(deeper), {}, {}, IMAGE)
    assert [layer.name for layer in layers] == ["maps", "a_last"]
    assert choose_layer(layers, None).name == "a_last"
    assert choose_layer(layers, "maps").name == "maps"
    with pytest.raises(UsageError, match="did you mean 'maps'"):
        choose_layer(layers, "map")


def test_a_network_without_maps_is_refused():
    with pytest.raises(RunError, match="needs a map"):
        usable_layers(of(lambda image: {"logits": image.sum(axis=(1, 2))}), {}, {}, IMAGE)


def test_a_map_is_laid_over_the_whole_image():
    fine = upsample(jnp.array([[[0.0, 1.0], [0.0, 1.0]]]), (4, 4))
    np.testing.assert_allclose(fine[0], np.tile([0, 0.25, 0.75, 1], (4, 1)), atol=1e-6)
