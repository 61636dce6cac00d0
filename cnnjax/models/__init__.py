# SPDX-License-Identifier: Apache-2.0
"""The networks by name, and how a network of one's own is found.

Swap in one place: `MODELS` here, or `config.model.name = "package.module:function"` or
`"path/to/file.py:function"`. A model function takes keyword-only hyperparameters and returns a `Model`.
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from cnnjax.errors import UsageError, unknown
from cnnjax.models.airbench import airbench
from cnnjax.models.alexnet import alexnet, alexnet_one_tower
from cnnjax.models.autoencoder import autoencoder
from cnnjax.models.lenet import lenet5
from cnnjax.models.lenet1989 import lenet1989
from cnnjax.models.mlp import logistic, mlp
from cnnjax.models.resnet import resnet, resnet_cifar
from cnnjax.models.simple_cnn import simple_cnn
from cnnjax.models.vgg import vgg
from cnnjax.types import Model

ModelFn = Callable[..., Model]

MODELS: dict[str, ModelFn] = {
    "logistic": logistic,
    "mlp": mlp,
    "lenet1989": lenet1989,
    "lenet5": lenet5,
    "simple_cnn": simple_cnn,
    "alexnet": alexnet,
    "alexnet_one_tower": alexnet_one_tower,
    "vgg": vgg,
    "resnet_cifar": resnet_cifar,
    "resnet": resnet,
    "airbench": airbench,
    "autoencoder": autoencoder,
}


def get_model(name: str, arguments: Mapping[str, Any], *, num_classes: int) -> Model:
    """Calls the model function `name` with `arguments`; `num_classes` joins them if the function takes it.

    Raises:
      UsageError: no such model, no such argument (the known ones are listed, nearest first), an argument of
        another type than its default, or a function that returns no `Model`.
    """
    function = find_model(name)
    parameters = inspect.signature(function).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [n for n, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    given = dict(arguments)
    if "num_classes" in known or takes_any:
        given.setdefault("num_classes", num_classes)
    for key, value in given.items():
        if key in known:
            given[key] = _checked(name, key, value, parameters[key].default)
        elif not takes_any:
            settable = [n for n in known if n != "num_classes"]
            raise UsageError(unknown(f"argument of model {name!r} (config.model.{key}):", key, settable))
    missing = [n for n in known if parameters[n].default is inspect.Parameter.empty and n not in given]
    if missing:
        raise UsageError(f"model {name!r} needs a value for config.model.{missing[0]}")
    model = function(**given)
    if not isinstance(model, Model):
        raise UsageError(f"model function {name!r} must return a cnnjax.types.Model, not {type(model).__name__}")
    return model


def find_model(name: str) -> ModelFn:
    """The function behind a short name, "package.module:function" or "path/to/file.py:function"."""
    if name in MODELS:
        return MODELS[name]
    place, colon, attribute = name.rpartition(":")
    if not colon:
        hint = "; a network of your own is 'package.module:function' or 'path/to/file.py:function'"
        raise UsageError(unknown("model", name, MODELS) + hint)
    module = _load_file(Path(place)) if place.endswith(".py") else _import(place)
    function = getattr(module, attribute, None)
    if not callable(function):
        functions = [n for n, value in vars(module).items() if inspect.isfunction(value) and not n.startswith("_")]
        raise UsageError(unknown(f"function of {place}:", attribute, functions))
    return cast(ModelFn, function)


def _load_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"config.model.name: no file {path}")
    name = f"cnnjax_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a .py file always has both
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and Linen look the module of a class up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"config.model.name: {path} does not load: {type(error).__name__}: {error}") from error
    return module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"config.model.name: cannot import {name!r}: {error}") from error


def _checked(model: str, key: str, value: Any, default: Any) -> Any:
    """`value` as the type of the argument's default, or an error."""
    if default is None or default is inspect.Parameter.empty or isinstance(value, type(default)):
        if isinstance(value, bool) and type(default) is int:
            raise UsageError(f"config.model.{key} of {model!r} is {value!r}, but must be int, as {default!r}")
        return value
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, tuple) and isinstance(value, int | float):
        return (value,)
    kind = type(default).__name__
    raise UsageError(f"config.model.{key} of {model!r} is {value!r}, but must be {kind}, as {default!r}")
