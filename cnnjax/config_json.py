# SPDX-License-Identifier: Apache-2.0
"""A config as JSON: data, and compared with the default config, key by key and type by type, before it is used."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference, placeholder

from cnnjax.errors import unknown


def from_json(value: Mapping[str, Any]) -> ConfigDict:
    """JSON knows neither tuples nor typed placeholders: puts both back, so that overrides keep their types.

    Raises:
      ValueError: a key that is no name.
    """
    config = ConfigDict()
    for key, item in value.items():
        if not key.isidentifier() or (key.startswith("__")):
            raise ValueError(f"{key[:40]!r} is no name of a key")
        if isinstance(item, dict):
            config[key] = from_json(item)
        else:
            config[key] = typed_none(key) if item is None else _tuples(item)
    return config


def conform(config: ConfigDict, schema: ConfigDict, where: str = "") -> None:
    """Makes whole numbers fractions where the schema has such, and refuses whatever else differs in type.

    The section `model` is left alone, but for its name: its function checks its arguments.

    Raises:
      ValueError: a key is missing, unknown, or of another type than the schema's.
    """
    for key in config:
        if key not in schema:
            raise ValueError(unknown("key", f"{where}{key}", [f"{where}{name}" for name in schema], limit=4))
    for key in schema:
        if key not in config:
            raise ValueError(f"config.{where}{key} is missing")
        default, value = schema[key], config[key]
        if f"{where}{key}" == "model":
            if not isinstance(value, ConfigDict) or not isinstance(value.get("name"), str):
                raise ValueError("config.model.name is missing")
        elif isinstance(default, ConfigDict):
            if not isinstance(value, ConfigDict):
                raise ValueError(f"config.{where}{key} is {value!r:.40}, not a section")
            conform(value, default, f"{where}{key}.")
        elif not _fits(value, wanted := schema.get_type(key), key, default):
            raise ValueError(f"config.{where}{key} is {value!r:.40}, not {wanted.__name__}")
        elif wanted is float and isinstance(value, int):
            with config.ignore_type():
                config[key] = float(value)


def typed_none(key: str) -> FieldReference:
    """None that still takes a value of the key's type from the command line."""
    if key.partition("boundaries_")[1]:
        return placeholder(tuple)
    return placeholder(int if key.endswith("_steps") else float if key.endswith("_epochs") else str)


def _fits(value: Any, wanted: type, key: str, default: Any) -> bool:
    if value is None:
        return default is None or key.endswith(("_steps", "_epochs"))
    if wanted is tuple:
        return isinstance(value, tuple) and all(
            isinstance(item, int | float | str) and not isinstance(item, bool) for item in value
        )
    if wanted is bool or isinstance(value, bool):
        return wanted is bool and isinstance(value, bool)
    return isinstance(value, int | float if wanted is float else wanted)


def _tuples(item: Any) -> Any:
    return tuple(map(_tuples, item)) if isinstance(item, list) else item
