# SPDX-License-Identifier: Apache-2.0
"""Images too small for a network: which layer leaves nothing of them, and the smallest image that works.

A layer of `cnnjax.layers` refuses a map that its window does not fit into. Flax and jax go on with an empty one, of
which a mean is NaN and a dense layer its bias; here that is an error, too.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnjax.errors import UsageError
from cnnjax.inspect.leaves import IMAGE
from cnnjax.inspect.source import describe_error, line_of
from cnnjax.inspect.steps import Trace
from cnnjax.inspect.trace import trace
from cnnjax.types import Model

_MOST = 512  # pixels of the shorter side that the search goes up to, and four times the side that is too small


def explain_size(model: Model, image_shape: tuple[int, int, int]) -> str | None:
    """Why a network does not work on an image, if a larger one helps: the layer, and the smallest size that works.

    Only traces the network: with sides doubled until it works, then halving the gap. Height and width keep their
    proportion, rounded up.

    Args:
      model: any pair of functions.
      image_shape: (H, W, C).

    Returns:
      A sentence; None if the image is large enough, or if its size is not what is wrong.
    """
    height, width, channels = image_shape
    short = min(height, width)

    def scaled(side: int) -> tuple[int, int, int]:
        return -(-height * side // short), -(-width * side // short), channels

    if short < 1 or (problem := find_problem(model, image_shape)) is None:
        return None
    fails, works = short, 2 * short
    while find_problem(model, scaled(works)):
        fails, works = works, 2 * works
        if works > max(_MOST, 4 * short):
            return None
    while works - fails > 1:
        middle = (fails + works) // 2
        if find_problem(model, scaled(middle)):
            fails = middle
        else:
            works = middle
    least = scaled(works)
    return (
        f"an image of {height}x{width} is too small: {problem}; the smallest "
        f"{'that works' if height == width else 'of its proportions that works'} is {least[0]}x{least[1]}"
    )


def find_problem(model: Model, image_shape: tuple[int, int, int]) -> str | None:
    """What goes wrong on an image: the layer whose map is empty, or the error; None if all is well."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    empty: list[str] = []
    try:
        with nn.intercept_methods(_note_empty(empty)):
            params, model_state = jax.eval_shape(lambda image: model.init(jax.random.key(0), image), image)
            traced = trace(lambda *args: model.apply(*args, train=False)[0], params, model_state, image)
    except UsageError as error:
        return empty[0] if empty else str(error).removesuffix("; take a larger input")
    except Exception as error:  # whatever a user's network raises
        return empty[0] if empty else describe_error(error)
    return empty_layer(traced)


def empty_layer(traced: Trace) -> str | None:
    """The first layer of a traced `apply(params, model_state, image)` that makes an empty map of one that is not."""
    for step in traced.steps:
        data = [value for value in step.inputs if IMAGE in value.arguments]
        shapes = [value.shape for value in step.outputs if 0 in value.shape]
        if shapes and data and not any(0 in value.shape for value in data):
            inside = step.scope[1:]  # the first name is the network's own
            place = "/".join(map(str, inside)) or ("pool" if step.primitive.startswith("reduce") else step.primitive)
            line = line_of(step)
            return f"layer {place}{f' ({line})' if line else ''} leaves an empty map, {_size(shapes[0])}"
    return None


def _note_empty(found: list[str]) -> Callable[..., Any]:
    """Watches Linen modules: a network may fail on an empty map only some layers later."""

    def note(next_function: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        path = "/".join(context.module.path)
        if path and not found and (shapes := _empty(args)):
            found.append(f"an empty map, {_size(shapes[0])}, comes to layer {path}")
        result = next_function(*args, **kwargs)
        if path and not found and (shapes := _empty(result)):
            found.append(f"layer {path} leaves an empty map, {_size(shapes[0])}")
        return result

    return note


def _empty(tree: Any) -> list[tuple[int, ...]]:
    shapes = [getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(tree)]
    return [shape for shape in shapes if 0 in shape]


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[1:]))
