# SPDX-License-Identifier: Apache-2.0
"""From `--config.key=a,b` to the points of a grid: pure functions of the command line."""

import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from cnnjax.config import load_config
from cnnjax.ensemble.configs import ENSEMBLE_KEYS
from cnnjax.errors import UsageError
from cnnjax.types import Config

MAX_POINTS = 1000
SEED = "seed"
_OPEN, _CLOSED, _QUOTES = "([{", ")]}", "'\""


class Point(NamedTuple):
    """A point of a grid.

    Attributes:
      name: of its folder, made of the values.
      values: by key, as the config has them.
      config: the whole.
    """

    name: str
    values: dict[str, Any]
    config: Config


def make_points(spec: str | None, overrides: Sequence[str]) -> list[Point]:
    """The points of the grid that overrides with several values span, the last key changing fastest.

    Args:
      spec: the `--config` flag.
      overrides: "--config.key=a,b" strings; those with one value hold for all points.

    Raises:
      UsageError: no key has several values, there are too many points, two are the same, or a config is wrong.
    """
    given = [override.removeprefix("--config.").partition("=") for override in overrides]
    for key, _, _ in given:
        if key in ENSEMBLE_KEYS:
            raise UsageError(f"--config.{key} is for one ensemble: a sweep takes --config.seed=0,1,2 instead")
    choices = {key: split_values(key, text) if equals else [None] for key, equals, text in given}
    swept = [key for key, texts in choices.items() if len(texts) > 1]
    if not swept:
        raise UsageError(
            "the grid has no points: give a key several values, as --config.optimizer.learning_rate=0.01,0.1"
        )
    size = 1
    for texts in choices.values():
        size *= len(texts)
    if size > MAX_POINTS:
        counts = " x ".join(str(len(choices[key])) for key in swept)
        raise UsageError(f"the grid has {counts} = {size:,} points, and {MAX_POINTS:,} are the most: give fewer values")
    configs = []
    for texts in itertools.product(*choices.values()):
        pairs = zip(choices, texts, strict=True)
        configs.append(load_config(spec, [f"--config.{key}" + f"={text}" * (text is not None) for key, text in pairs]))
    values = [{key: _value(config, key) for key in swept} for config in configs]
    for i, own in enumerate(values):
        if own in values[:i]:
            told = ", ".join(f"config.{key}={value}" for key, value in own.items())
            raise UsageError(f"two points of the grid are the same ({told}): give each value once")
    return [Point(*point) for point in zip(_names(values), values, configs, strict=True)]


def split_values(key: str, text: str) -> list[str]:
    """`text` cut at its commas, but not inside brackets or quotes: "(1,2),(3,4)" is two tuples.

    Raises:
      UsageError: a value is empty, or a bracket is not closed.
    """
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if letter == "," and not depth and not quote:
            parts.append("")
            continue
        parts[-1] += letter
        if quote:
            quote = "" if letter == quote else quote
        elif letter in _QUOTES:
            quote = letter
        else:
            depth += (letter in _OPEN) - (letter in _CLOSED)
    if depth or quote:
        raise UsageError(f"--config.{key}={text} has a bracket or a quote that is not closed")
    if len(parts) > 1 and not all(part.strip() for part in parts):
        raise UsageError(f"--config.{key}={text} has an empty value between its commas")
    return [part.strip() for part in parts]


def _value(config: Config, key: str) -> Any:
    for name in key.split("."):
        config = config[name]
    return config


def _names(values: Sequence[dict[str, Any]]) -> list[str]:
    """Folder names such as "learning_rate=0.1,seed=0"; numbers where those would not do."""
    last = [key.rpartition(".")[2] for key in values[0]]
    short = [name if last.count(name) == 1 else key for name, key in zip(last, values[0], strict=True)]
    names = [",".join(f"{s}={_word(v)}" for s, v in zip(short, own.values(), strict=True)) for own in values]
    if len(set(names)) < len(names) or max(map(len, names)) > 120:
        return [f"point{i}" for i in range(len(names))]
    return names


def _word(value: Any) -> str:
    return re.sub(r"[^\w.+-]+", "_", str(value)).strip("_")
