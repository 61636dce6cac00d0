# SPDX-License-Identifier: Apache-2.0
"""A layer, or a chain of layers, written in one line: conv(3, 6, kernel_size=3) > relu > max_pool(2).

Names and arguments are PyTorch's, in its order and with its defaults. The text is parsed, never run.
"""

import ast
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import flax.linen as nn
import jax.numpy as jnp

from cnnjax import layers
from cnnjax.errors import UsageError, unknown
from cnnjax.models.adapter import from_linen
from cnnjax.types import Array, Model, Outputs

Layer = Callable[[Array, str], Array]
"""`layer(x, name)`, called inside a compact module: the layer with its parameters under that name."""


def _conv(
    in_channels: int,
    out_channels: int,
    kernel_size: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    bias: bool = True,
) -> Layer:
    def layer(x: Array, name: str) -> Array:
        _check_input(name, "in_channels", in_channels, x)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "use_bias": bias}
        return layers.Conv(_count(name, "out_channels", out_channels), kernel_size, **options, name=name)(x)

    return layer


def _linear(in_features: int, out_features: int, bias: bool = True) -> Layer:
    def layer(x: Array, name: str) -> Array:
        hint = "; put flatten before it" if x.ndim > 2 and in_features == x[0].size else ""
        _check_input(name, "in_features", in_features, x, hint)
        return nn.Dense(_count(name, "out_features", out_features), use_bias=bias, name=name)(x)

    return layer


def _max_pool(
    kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, *, ceil_mode: bool = False
) -> Layer:
    def layer(x: Array, name: str) -> Array:
        options = {"padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
        return layers.MaxPool(kernel_size, stride, **options, name=name)(x)

    return layer


def _avg_pool(
    kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True
) -> Layer:
    def layer(x: Array, name: str) -> Array:
        options = {"padding": padding, "ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        return layers.AvgPool(kernel_size, stride, **options, name=name)(x)

    return layer


def _adaptive_avg_pool(output_size: Any) -> Layer:
    return lambda x, name: layers.AdaptiveAvgPool(output_size, name=name)(x)


def _global_avg_pool() -> Layer:
    return lambda x, name: layers.GlobalAvgPool(name=name)(x)


def _batch_norm(num_features: int) -> Layer:
    def layer(x: Array, name: str) -> Array:
        _check_input(name, "num_features", num_features, x)
        return layers.BatchNorm(name=name)(x, train=False)

    return layer


def _local_response_norm(size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Layer:
    # PyTorch divides alpha by the size.
    return lambda x, name: layers.local_response_norm(x, size=size, alpha=alpha / size, beta=beta, k=k)


def _flatten() -> Layer:
    return lambda x, name: x.reshape(x.shape[0], -1)


def _dropout(p: float = 0.5) -> Layer:
    return lambda x, name: nn.Dropout(p, deterministic=True)(x)


def _activation(function: Callable[[Array], Array]) -> Callable[[], Layer]:
    return lambda: lambda x, name: function(x)


LAYERS: dict[str, Callable[..., Layer]] = {
    "conv": _conv,
    "linear": _linear,
    "dense": _linear,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": _adaptive_avg_pool,
    "global_avg_pool": _global_avg_pool,
    "batch_norm": _batch_norm,
    "local_response_norm": _local_response_norm,
    "lrn": _local_response_norm,
    "flatten": _flatten,
    "dropout": _dropout,
    "relu": _activation(nn.relu),
    "tanh": _activation(jnp.tanh),
    "sigmoid": _activation(nn.sigmoid),
    "softmax": _activation(nn.softmax),
}
"""By name; PyTorch's own spelling (Conv2d, MaxPool2d, ReLU) is understood, too."""


def parse_layers(text: str) -> Model:
    """The network that a line like "conv(3, 6, kernel_size=3) > relu > max_pool(2)" describes.

    Its layers are named by what they are, numbered where there are several of a kind: conv1, conv2. An activation
    may go without brackets.

    Raises:
      UsageError: the text is not of that form, or has unknown layers or arguments.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        _refuse(text)
    nodes = [tree]
    if isinstance(tree, ast.Compare):
        if not all(isinstance(each, ast.Gt) for each in tree.ops):
            _refuse(text)
        nodes = [tree.left, *tree.comparators]
    named = [_layer(node, text) for node in nodes]
    totals, counts = Counter(name for name, _ in named), Counter[str]()
    chain = []
    for name, layer in named:
        counts[name] += 1
        chain.append((f"{name}{counts[name]}" if totals[name] > 1 else name, layer))
    return from_linen(_Chain(tuple(chain)))


class _Chain(nn.Module):
    layers: tuple[tuple[str, Layer], ...]

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        del train  # a summary is of the evaluation
        x = image
        for name, layer in self.layers:
            try:
                x = layer(x, name)
            except UsageError:
                raise
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # local_response_norm(0)
                told = f"given {list(x.shape)}: {type(error).__name__}: {str(error)[:200]}"
                raise UsageError(f"layer {name}, {told}; mend its arguments or the layers before it") from error
        return {"logits": x}


def _layer(node: ast.expr, text: str) -> tuple[str, Layer]:
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name) or any(keyword.arg is None for keyword in call.keywords):
        _refuse(text)
    given = call.func.id
    plain = given.lower().replace("_", "").removesuffix("2d")
    name = next((name for name in LAYERS if name.replace("_", "") == plain), None)
    if name is None:
        raise UsageError(unknown("layer", given, LAYERS))
    signature = inspect.signature(LAYERS[name])
    for keyword in call.keywords:
        if keyword.arg not in signature.parameters:
            raise UsageError(unknown(f"argument of {name}:", str(keyword.arg), signature.parameters))
    try:
        args = [ast.literal_eval(value) for value in call.args]
        kwargs = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise UsageError(
            f"--layer: the arguments of {name} must be numbers, pairs or texts, as in {_EXAMPLE}"
        ) from None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise UsageError(f"--layer: {name}{_arguments(signature)}: {error}") from None
    return name, LAYERS[name](*args, **kwargs)


def _arguments(signature: inspect.Signature) -> str:
    """Without types: (in_channels, out_channels, kernel_size, stride=1)."""
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(inspect.Signature(bare))


_EXAMPLE = "'conv(3, 6, kernel_size=3) > relu > max_pool(2)'"


def _refuse(text: str) -> NoReturn:
    raise UsageError(f"--layer {text!r} is no layer or chain of layers; write {_EXAMPLE}") from None


def _check_input(name: str, argument: str, given: Any, x: Array, hint: str = "") -> None:
    if given != x.shape[-1] or isinstance(given, bool):
        last = "channels" if x.ndim == 4 else "numbers"
        raise UsageError(f"layer {name}: {argument} is {given!r}, but {x.shape[-1]} {last} come to it{hint}")


def _count(name: str, argument: str, given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise UsageError(f"layer {name}: {argument} is {given!r}; it takes a whole number, 1 or more")
    return given
