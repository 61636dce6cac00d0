# SPDX-License-Identifier: Apache-2.0
"""Fixed features: what a layer of a trained network says of each picture of a split, kept in the user's cache."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnnjax import devices
from cnnjax.checksums import checksums
from cnnjax.data import cache
from cnnjax.data.resident import eval_stream, num_batches
from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.preprocess import make_prepare
from cnnjax.types import Array, Config, Model, ModelState, Outputs, Params, Split

DEFAULT_LAYER = "features"
_NOT_LAYERS = ("logits", "recon")


class Backbone(NamedTuple):
    """A trained network whose features are taken.

    Attributes:
      config: its `model` tells which network it is, its `data` and `augment` how pictures are prepared.
      model: the network.
      params: its parameters.
      model_state: its running statistics.
      num_classes: K of the network's own output.
    """

    config: Config
    model: Model
    params: Params
    model_state: ModelState
    num_classes: int


def check_layer(backbone: Backbone, layer: str, image_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape [D] or [H,W,C] of what the layer says of one picture.

    Raises:
      UsageError: the network has no output of that name.
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)

    def outputs(params: Params, model_state: ModelState, image: Array) -> Outputs:
        return backbone.model.apply(params, model_state, image, train=False)[0]

    shapes = jax.eval_shape(outputs, backbone.params, backbone.model_state, image)
    layers = [name for name in shapes if name not in _NOT_LAYERS]
    if layer not in layers:
        raise UsageError(f"{unknown('layer', layer, layers)}; set --layer")
    return shapes[layer].shape[1:]


def features(backbone: Backbone, split: Split, layer: str, mesh: Mesh) -> np.ndarray:
    """[N,D] float32 of the split's pictures, in order; maps [H,W,C] are averaged over their places.

    The network is as in evaluation: no dropout, no augmentation, BatchNorm by its running statistics.

    Raises:
      UsageError: there is no such layer.
      RunError: a feature is not finite.
    """
    check_layer(backbone, layer, split.image.shape[1:])
    key = _cache_key(backbone, split, layer)
    if (kept := cache.load(key)) is not None:
        return kept.image
    found = _computed(backbone, split, layer, mesh)
    if not np.isfinite(found).all():
        raise RunError(f"features of the layer {layer} are not finite; the network's parameters are damaged")
    cache.store(key, Split(found, split.label))  # the cache keeps any array beside its labels
    return found


def _computed(backbone: Backbone, split: Split, layer: str, mesh: Mesh) -> np.ndarray:
    _, prepare = make_prepare(backbone.config.data, backbone.config.augment, backbone.num_classes)
    size = min(backbone.config.data.eval_batch_size, len(split.label))
    stream = eval_stream(
        split,
        batch_size=size + -size % mesh.size,
        put=lambda array: devices.place_replicated(array, mesh),
    )

    @jax.jit
    def step(params: Params, model_state: ModelState, arrays: dict[str, Array], item: dict[str, Array]) -> Array:
        batch = jax.lax.with_sharding_constraint(stream.batch(arrays, item), devices.split_rows(mesh))
        batch = prepare(jax.random.key(0), batch)  # nothing is drawn at random
        outputs, _ = backbone.model.apply(params, model_state, batch["image"], train=False)
        maps = outputs[layer]
        return maps.reshape(maps.shape[0], -1, maps.shape[-1]).mean(axis=1)

    rows = [
        step(backbone.params, backbone.model_state, stream.arrays, jax.tree.map(lambda x: x[0], stream.items(i, 1)))
        for i in range(num_batches(stream))
    ]
    return np.concatenate([np.asarray(row) for row in rows])[: len(split.label)]


def _cache_key(backbone: Backbone, split: Split, layer: str) -> str:
    """Of the network's parameters, its preparation and the pictures: nothing else changes a feature."""
    data = backbone.config.data
    network = checksums({"params": backbone.params, "model_state": backbone.model_state})
    what = [backbone.config.model.to_dict(), network, layer, list(data.mean), list(data.std)]
    pictures = [np.ascontiguousarray(array).tobytes() for array in split]
    return cache.cache_key("features", json.dumps(what), str(split.image.shape), *pictures)
