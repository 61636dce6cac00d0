# SPDX-License-Identifier: Apache-2.0
"""The table of a network: its layers with output shapes, parameters and multiply-adds, read from its trace."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cnnjax.errors import UsageError
from cnnjax.inspect.layers import Layer, find_layers
from cnnjax.inspect.leaves import find_leaves
from cnnjax.inspect.source import describe_error
from cnnjax.inspect.trace import trace
from cnnjax.report.table import format_count
from cnnjax.report.table import format_table as align_table
from cnnjax.types import Model

_NAME_WIDTH = 32  # keeps the table below 100 columns up to 10^13 multiply-adds


class Summary(NamedTuple):
    """A network in numbers.

    Attributes:
      model: its name.
      input_shape: (H, W, C) of one image.
      layers: in the order of the computation.
      params: of all layers, used or not: the size of the parameter tree.
      macs: multiply-adds of all convolutions and matrix products, for one image.
    """

    model: str
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    params: int
    macs: int


def summarize(model: Model, image_shape: tuple[int, int, int], name: str) -> Summary:
    """Reads a network's layers from the trace of its evaluation on one image; nothing is computed.

    Args:
      model: any pair of functions; names come from its scopes (Linen modules) or its parameters.
      image_shape: (H, W, C) of the image, float32.
      name: what to call the network.

    Raises:
      UsageError: the network cannot be traced on an image of this shape.
    """
    height, width, channels = image_shape
    image = jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
    try:
        params, model_state = jax.eval_shape(lambda image: model.init(jax.random.key(0), image), image)
        traced = trace(lambda *args: model.apply(*args, train=False)[0], params, model_state, image)
    except Exception as error:
        size = f"{height}x{width}x{channels}"
        raise UsageError(f"model {name} cannot be traced on a {size} image: {describe_error(error)}") from error
    layers = find_layers(traced, find_leaves(params, model_state))
    return Summary(
        name, image_shape, tuple(layers), sum(layer.params for layer in layers), sum(layer.macs for layer in layers)
    )


def format_table(summary: Summary) -> str:
    """The lecture's table as text, narrower than 100 columns: layer, type, output shape, parameters, multiply-adds."""
    rows = [
        (_shorten(layer.name), layer.type, _shape(layer.output_shape), *map(format_count, (layer.params, layer.macs)))
        for layer in summary.layers
    ]
    total = ("total", "", "", format_count(summary.params), format_count(summary.macs))
    header = ("layer", "type", "output shape", "parameters", "multiply-adds")
    title = f"{summary.model}, input {_shape(summary.input_shape)}"
    return f"{title}\n\n{align_table(header, [*rows, None, total], 'lllrr')}"


def to_json(summary: Summary) -> dict[str, Any]:
    """The summary as plain lists, numbers and strings."""
    fields = summary._asdict() | {"input_shape": list(summary.input_shape)}
    layers = [layer._asdict() | {"output_shape": list(layer.output_shape)} for layer in summary.layers]
    return fields | {"layers": layers}


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "-"


def _shorten(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else "..." + name[3 - _NAME_WIDTH :]
