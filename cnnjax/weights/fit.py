# SPDX-License-Identifier: Apache-2.0
"""The network of a config with the weights of a file in it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import UsageError
from cnnjax.experiment import build_model
from cnnjax.layers.scan import stack, unstack
from cnnjax.types import Config, Model, ModelState, Params, PyTree
from cnnjax.weights.convert import ERRORS, Row, convert, match
from cnnjax.weights.layout import theirs_shape
from cnnjax.weights.names import Place, get_convention, named_leaves, places, recognise, with_leaves
from cnnjax.weights.read import Weights

_PROBES = 7, 11  # two numbers of classes; an array whose shape changes between them belongs to the classes


class Fit(NamedTuple):
    """A network and a file, every array of both accounted for.

    Attributes:
      model: the network, for `num_classes` classes.
      num_classes: K, told by the file unless `config.model.num_classes` says it.
      image_shape: height, width, channels.
      names: the convention of the file's names.
      found: where each array of the network lies in the file, by native name.
      rows: what becomes of each array.
    """

    model: Model
    num_classes: int
    image_shape: tuple[int, int, int]
    names: str
    found: dict[str, Place]
    rows: list[Row]


def fit(
    config: Config,
    weights: Weights,
    image_shapes: Sequence[tuple[int, int, int]],
    *,
    names: str = "",
    allow: Sequence[str] = (),
    num_labels: int | None = None,
) -> Fit:
    """Finds the convention, the number of classes and the array in the file for each of the network's.

    Args:
      config: its `model` section and `train.dtype` make the network.
      weights: the file.
      image_shapes: height, width, channels; of several the one that fits best, of equals the first.
      names: the convention of the file's names; "" recognises it.
      allow: as for `convert.match`.
      num_labels: K where neither the config nor the file tells it.

    Raises:
      UsageError: no convention fits, the network cannot be built, or K is not to be told.
    """
    fits = [_fit(config, weights, shape, names, allow, num_labels) for shape in image_shapes]
    return min(fits, key=lambda each: sum(row.status in ERRORS for row in each.rows))


def load(fitted: Fit, tensors: Mapping[str, np.ndarray], key: Any) -> tuple[Params, ModelState]:
    """The parameters and state from the file's tensors; what may be missing is initialised with `key`.

    The rows must have passed `convert.check`.
    """
    image = _image(fitted.image_shape)
    like = jax.eval_shape(fitted.model.init, key, image)
    missing = [row.ours for row in fitted.rows if row.status == "initial"]

    @jax.jit  # the compiler leaves out what is not asked for
    def initialise() -> dict[str, Any]:
        leaves = named_leaves(*map(unstack, fitted.model.init(key, jnp.zeros(image.shape, image.dtype))))
        return {name: leaves[name] for name in missing}

    initial = initialise() if missing else {}
    shapes = [jax.eval_shape(unstack, tree) for tree in like]
    arrays = convert(tensors, named_leaves(*shapes), fitted.found, fitted.rows, initial)
    params, model_state = (
        stack(with_leaves(tree, part, arrays), whole)
        for part, tree, whole in zip(("params", "model_state"), shapes, like, strict=True)
    )
    return params, model_state


def unscanned(config: Config, fitted: Fit) -> Model:
    """The network in float32, with every block by itself even where the config has a loop (`config.model.scan`)."""
    apart = config.copy_and_resolve_references()
    with apart.unlocked():
        apart.train.dtype = "float32"
        if apart.model.get("scan"):
            apart.model.scan = False
    return build_model(apart, fitted.num_classes)


def _fit(
    config: Config,
    weights: Weights,
    image_shape: tuple[int, int, int],
    names: str,
    allow: Sequence[str],
    num_labels: int | None,
) -> Fit:
    fixed: int | None = config.model.get("num_classes")
    probes = [network_leaves(config, fixed or probe, image_shape) for probe in _PROBES]
    names = names or recognise(probes[0], weights.tensors)
    modules = get_convention(probes[0], names)
    found = places(probes[0], modules)
    stored = _num_classes(probes, found, weights)
    num_classes = fixed or stored or num_labels
    if num_classes is None:
        raise UsageError("the weights do not tell the number of classes; give --labels=FILE, a name a line")
    leaves = network_leaves(config, num_classes, image_shape)
    per_class: Collection[str] = [name for name in leaves if leaves[name].shape != probes[0][name].shape]
    if fixed:
        per_class = [name for name in leaves if name.startswith("params.output.")]
    rows = match(weights.tensors, leaves, found, allow=allow, per_class=per_class)
    return Fit(build_model(config, num_classes), num_classes, image_shape, names, found, rows)


def network_leaves(config: Config, num_classes: int, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """The arrays as shapes of the network of `config`, by native name, scanned blocks taken apart."""
    model = build_model(config, num_classes)
    trees: tuple[PyTree, PyTree] = jax.eval_shape(model.init, jax.random.key(0), _image(image_shape))
    return named_leaves(*(jax.eval_shape(unstack, tree) for tree in trees))


def _num_classes(probes: Sequence[dict[str, Any]], found: dict[str, Place], weights: Weights) -> int | None:
    """K by the first tensor that has an axis of classes; None when there is none."""
    for name, (theirs, layout) in found.items():
        shapes = [theirs_shape(layout, tuple(probe[name].shape)) for probe in probes]
        axes = [axis for axis, pair in enumerate(zip(*shapes, strict=True)) if pair == _PROBES]
        if axes and theirs in weights.tensors and weights.tensors[theirs].ndim > axes[0]:
            return weights.tensors[theirs].shape[axes[0]]
    return None


def _image(image_shape: tuple[int, int, int]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
