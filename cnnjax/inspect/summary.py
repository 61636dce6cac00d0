# SPDX-License-Identifier: Apache-2.0
"""The table of a network: its layers with output shapes, parameters, multiply-adds and receptive fields."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cnnjax.errors import UsageError
from cnnjax.inspect.layers import Layer, find_layers
from cnnjax.inspect.leaves import find_leaves
from cnnjax.inspect.receptive import ReceptiveField
from cnnjax.inspect.smallest import empty_layer, explain_size
from cnnjax.inspect.source import describe_error
from cnnjax.inspect.trace import trace
from cnnjax.report.table import format_count
from cnnjax.report.table import format_table as align_table
from cnnjax.types import Model

_WIDTH = 120  # that tables stay below, names being cut for it
_NAME_WIDTH = (12, 36)  # but no further than to the first


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
      UsageError: the network cannot be traced on an image of this shape, or nothing is left of the image on the way;
        then the message has the layer and the smallest size that works.
    """
    height, width, channels = image_shape
    image = jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
    try:
        params, model_state = jax.eval_shape(lambda image: model.init(jax.random.key(0), image), image)
        traced = trace(lambda *args: model.apply(*args, train=False)[0], params, model_state, image)
    except Exception as error:
        if small := explain_size(model, image_shape):
            raise UsageError(f"model {name}: {small}") from error
        if isinstance(error, UsageError):
            raise UsageError(f"model {name}: {error}") from error
        size = f"{height}x{width}x{channels}"
        raise UsageError(f"model {name} cannot be traced on a {size} image: {describe_error(error)}") from error
    if empty_layer(traced) and (small := explain_size(model, image_shape)):
        raise UsageError(f"model {name}: {small}")
    layers = find_layers(traced, find_leaves(params, model_state))
    return Summary(
        name, image_shape, tuple(layers), sum(layer.params for layer in layers), sum(layer.macs for layer in layers)
    )


def format_table(summary: Summary) -> str:
    """The lecture's table as text, narrower than 120 columns up to 10^13 multiply-adds; long names are cut.

    The receptive field is size, jump and start; both axes at once where they are equal, else "height x width".
    """
    rows = [
        (
            layer.type,
            _shape(layer.output_shape),
            *map(format_count, (layer.params, layer.neurons, layer.macs)),
            *_field(layer.receptive_field),
        )
        for layer in summary.layers
    ]
    total = ("", "", format_count(summary.params), "", format_count(summary.macs), "", "", "")
    header = ("type", "output", "parameters", "neurons", "multiply-adds", "field", "jump", "start")
    numbers = align_table(header, [*rows, None, total], "llrrrrrr")
    width = max(_NAME_WIDTH[0], min(_NAME_WIDTH[1], _WIDTH - 3 - max(map(len, numbers.splitlines()))))
    names = [_shorten(layer.name, width) for layer in summary.layers]
    named = [(name, *row) for name, row in zip(names, rows, strict=True)]
    title = f"{summary.model}, input {_shape(summary.input_shape)}"
    return f"{title}\n\n{align_table(('layer', *header), [*named, None, ('total', *total)], 'lllrrrrrr')}"


def to_json(summary: Summary) -> dict[str, Any]:
    """The summary as plain lists, numbers and strings; `receptive_field` has (height, width) of each."""
    fields = summary._asdict() | {"input_shape": list(summary.input_shape)}
    layers = []
    for layer in summary.layers:
        field = layer.receptive_field
        seen = None if field is None else {name: list(pair) for name, pair in field._asdict().items()}
        layers.append(layer._asdict() | {"output_shape": list(layer.output_shape), "receptive_field": seen})
    return fields | {"layers": layers}


def _field(field: ReceptiveField | None) -> list[str]:
    if field is None:
        return ["-"] * 3
    texts = []
    for pair in field:
        height, width = ("-" if number is None else f"{number:.4g}" if number % 1 else str(number) for number in pair)
        texts.append(height if height == width else f"{height}x{width}")
    return texts


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "-"


def _shorten(name: str, width: int) -> str:
    return name if len(name) <= width else "..." + name[3 - width :]
