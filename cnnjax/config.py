# SPDX-License-Identifier: Apache-2.0
"""Configs: a file with a variant, overrides from the command line, checks before anything compiles.

A config is an `ml_collections.ConfigDict`. `experiments/default.py` is its schema; a run keeps the resolved
one as `config.json`.
"""

import ast
import functools
import importlib.util
import math
import numbers
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from cnnjax import trust
from cnnjax.config_json import conform, from_json, typed_none
from cnnjax.errors import RunError, UsageError, nearest_first, unknown
from cnnjax.jsonfile import read_object

CONFIG_FILE = "config.json"
_DEFAULT = Path(__file__).parents[1] / "experiments/default.py"
MEMBERS_FILE = "members.json"  # of a folder that holds several runs, an ensemble or a sweep, and is none itself
Config = Any
"""A ConfigDict; its keys are attributes that no type checker knows."""


def load_config(spec: str | None, overrides: Sequence[str] = ()) -> Config:
    """The config of `FILE[:variant]` with `--config.key=value` overrides applied, checked and locked.

    FILE is Python, which is run, or JSON as a run keeps it, which is data: a network outside this package that it
    names is run only when the user has named it, too (`cnnjax.trust`).

    Raises:
      UsageError: no such file, a config that does not load, an unknown key or variant, a wrong type, a value out
        of range.
    """
    if not spec:
        raise UsageError("no config given; add --config=experiments/lenet5_digits.py ('run.py experiments' lists all)")
    if spec.endswith(".json"):
        if not Path(spec).expanduser().is_file():
            raise UsageError(f"no config file {spec}; give the {CONFIG_FILE} of a run, or a config in Python")
        config = config_from_json(read_object(Path(spec).expanduser()), overrides, where=spec)
        trust.check(config.model.name)
        return config
    path, _, variant = spec.partition(".py:")
    file = Path(path if path.endswith(".py") else f"{path}.py")
    config = finish_config(_call_get_config(file, variant), overrides)
    trust.accept(config.model.name)
    return config


def finish_config(config: ConfigDict, overrides: Sequence[str]) -> Config:
    """Applies overrides to a loaded config, checks the values and locks it."""
    pairs = [_split_override(override) for override in overrides]
    with config.unlocked():
        for key, value in flatten(config).items():
            if value is None:
                _parent(config, key)[key.rpartition(".")[2]] = typed_none(key)
        _open_model_section(config, pairs)
        for key, _ in pairs:
            _clear_other_unit(config, key)
    config.lock()
    _apply(config, pairs)
    check_values(config)
    if name := dict(pairs).get("model.name"):
        trust.accept(name)
    return config.lock()


def check_values(config: ConfigDict) -> None:
    """Raises UsageError for the first value outside its range (RULES), or a duration with none or two units."""
    values = flatten(config)
    for key, (accepts, what) in RULES.items():
        value = values.get(key)
        if value is not None and not accepts(value):
            raise UsageError(f"config.{key} = {value!r} is out of range: it must be {what}")
    for key in values:
        if key.endswith("_epochs") and (other := f"{key.removesuffix('_epochs')}_steps") in values:
            given = [name for name in (key, other) if values[name] is not None]
            if len(given) != 1:
                both = "both are set" if given else "neither is"
                raise UsageError(f"set one of config.{key} and config.{other}, and the other to None: {both}")


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """A nested config as {"data.batch_size": 128, ...}, in order."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def difference(old: ConfigDict, new: ConfigDict) -> list[tuple[str, Any, Any]]:
    """(key, old value, new value) of every key that differs; a key that one side lacks shows as None there."""
    before, after = flatten(old), flatten(new)
    return [
        (key, before.get(key), after.get(key))
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def load_run_config(workdir: Path, overrides: Sequence[str] = ()) -> Config:
    """The config that a run was started with, from its `config.json`.

    Raises:
      RunError: `workdir` holds no run, or its config cannot be read.
    """
    path = workdir / CONFIG_FILE
    if (workdir / MEMBERS_FILE).is_file():
        first = next((file.parent for file in sorted(workdir.glob(f"*/{CONFIG_FILE}"))), workdir / "member0")
        raise RunError(f"{workdir} holds several runs and is none itself: give one of them, as --workdir={first}")
    if not path.is_file():
        raise RunError(f"{workdir} holds no run: there is no {CONFIG_FILE} in it; give the --workdir of a training run")
    return config_from_json(read_object(path), overrides, where=str(path))


def config_from_json(loaded: Any, overrides: Sequence[str] = (), *, where: str) -> Config:
    """A config as it was written with `to_json`; keys that came later have the values that change nothing.

    Raises:
      RunError: it is no such config; `where` says what was read.
      UsageError: as `finish_config`.
    """
    try:
        if not isinstance(loaded, dict):
            raise ValueError("no JSON object is in its place")
        config = from_json(loaded)
        for key, value in ADDED.items():
            section, _, name = key.rpartition(".")
            if section and section not in config:
                config[section] = ConfigDict()
            parent = _parent(config, key) if section else config
            if isinstance(parent, ConfigDict) and name not in parent:
                parent[name] = value
        if (schema := _schema()) is not None:
            conform(config, schema)
    except ValueError as error:
        raise RunError(f"{where} holds no config: {error}; restore it, or give the config in Python") from error
    return finish_config(config, overrides)


@functools.cache
def _schema() -> ConfigDict | None:
    """The default config, which tells keys and types; it lies beside the package, and not in it."""
    return _call_get_config(_DEFAULT, "") if _DEFAULT.is_file() else None


def _parent(config: ConfigDict, key: str) -> ConfigDict:
    """The section that holds a dotted key."""
    for section in key.split(".")[:-1]:
        config = cast(ConfigDict, config[section])
    return config


def _call_get_config(file: Path, variant: str) -> ConfigDict:
    if not file.is_file():
        shipped = [str(path) for path in sorted(file.parent.glob("*.py")) if path.stem not in ("__init__", "default")]
        hint = f"; did you mean {nearest_first(str(file), shipped)[0]}?" if shipped else ""
        raise UsageError(f"no config file {file}{hint} ('run.py experiments' lists the shipped ones)")
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    assert spec is not None and spec.loader is not None  # a .py file always has both
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(variant) if variant else module.get_config()
    except UsageError:
        raise
    except Exception as error:
        # Whatever a config file raises is the user's to mend there: name the place in one line.
        raise UsageError(f"{_line_in(file, error)}: {type(error).__name__}: {_one_line(error)}") from error
    if not isinstance(config, ConfigDict):
        raise UsageError(f"{file}: get_config() must return an ml_collections.ConfigDict, not {type(config).__name__}")
    return config


def _line_in(file: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{file}:{error.lineno}"
    line, traceback = None, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(file):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return f"{file}:{line}" if line else str(file)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())


def _split_override(override: str) -> tuple[str, str | None]:
    name, equals, value = override.removeprefix("--config.").partition("=")
    return name, value if equals else None


def _open_model_section(config: Any, pairs: list[tuple[str, str | None]]) -> None:
    """Arguments of a model are not known to the schema: its function checks them. So any may be given here."""
    given = dict(pairs)
    name = given.get("model.name")
    if name is not None and name != config.model.name:
        config.model = ConfigDict({"name": name})  # the other keys were those of the network that is swapped out
    for key, text in given.items():
        section, _, argument = key.partition(".")
        if section == "model" and argument and "." not in argument and argument not in config.model:
            config.model[argument] = _literal(text)


def _literal(text: str | None) -> Any:
    if text is None:
        return True
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        return text


def _clear_other_unit(config: ConfigDict, key: str) -> None:
    section, _, name = key.rpartition(".")
    for unit, other in (("_epochs", "_steps"), ("_steps", "_epochs")):
        twin = f"{section}.{name.removesuffix(unit)}{other}".lstrip(".")
        if name.endswith(unit) and twin in flatten(config):
            _parent(config, twin)[twin.rpartition(".")[2]] = typed_none(twin)


def _apply(config: ConfigDict, pairs: list[tuple[str, str | None]]) -> None:
    known = list(flatten(config))
    for key, value in pairs:
        if key not in known:
            raise UsageError(unknown("key", f"config.{key}", [f"config.{name}" for name in known], limit=4))
        if value is None and not isinstance(flatten(config)[key], bool):
            raise UsageError(f"--config.{key} has no value: write --config.{key}=VALUE")
        wanted = _parent(config, key).get_type(key.rpartition(".")[2])
        if wanted is type(None):
            continue  # an argument of a model, --config.model.KEY=None, which is set already
        argv = ["run.py", f"--config.{key}={_as_words(key, value)}"]
        parser = flags.FlagValues()
        try:
            config_flags.DEFINE_config_dict("config", config, flag_values=parser, lock_config=False, sys_argv=argv)
            parser(argv)
        except (flags.Error, TypeError, ValueError) as error:
            raise UsageError(f"config.{key} = {value!r} is not of type {wanted.__name__}") from error


WORDS = (
    "data.labels",
    "init_rename",
    "init_allow",
    "freeze",
    "unfreeze",
    "optimizer.factors",
    "optimizer.decay_factors",
    "optimizer.freeze_after",
)
"""Keys of several words, which may be given bare and with commas: --config.freeze='stem*,stage1/*'."""


def _as_words(key: str, value: str | None) -> str:
    if value is None:
        return "true"
    if key in WORDS and value[:1] not in ("(", "[", "'", '"'):
        return repr(tuple(word.strip() for word in value.split(",") if word.strip()))
    return value


ADDED: dict[str, Any] = {
    "augment.mirror_mode": "random",
    "data.balance": False,
    "data.crop_from": 0,
    "data.fold": -1,
    "data.fold_repeats": 1,
    "data.folds": 0,
    "data.crop_whole": True,
    "data.prefetch": 4,
    "data.stream": "auto",
    "data.threads": 0,
    "data.train_examples": 0,
    "data.workers": 0,
    "ensemble_learning_rates": (),
    "ensemble_seeds": (),
    "ensemble_size": 1,
    "ensemble_way": "auto",
    "optimizer.lookahead": 0,
    "optimizer.lookahead_decay": 0.5,
    "optimizer.lookahead_power": 0.0,
    "schedule.initial_fraction": 0.0,
    "task.class_weights": "none",
    "task.loss": "cross_entropy",
    "train.deterministic": False,
    "train.matmul_precision": "default",
    "task.reconstruction_loss": "mse",
    "eval.protocol": "single",
    "eval.averaging": "probabilities",
    "eval.resize": 0,
    "eval.crop": (),
    "eval.scales": (),
    "eval.mirror": True,
    "eval.views": "mirror",
    "eval.num_views": 10,
    "freeze": (),
    "init_allow": (),
    "init_from": "",
    "init_rename": (),
    "optimizer.decay_factors": (),
    "optimizer.factors": (),
    "optimizer.freeze_after": (),
    "optimizer.l2_sp": 0.0,
    "optimizer.l2_sp_new": 0.01,
    "unfreeze": (),
    "task.ssim_weight": 0.0,
    "task.kl_weight": 1.0,
    "task.sparsity": "l1",
    "task.sparsity_weight": 0.0,
    "task.sparsity_target": 0.05,
    "augment.noise": 0.0,
    "augment.noise_drop": 0.0,
    "data.attribute": "",
    "train.shard_params": 0,
}
"""Keys that older runs do not have, each with the value that does what was done before there was such a key."""

Rule = tuple[Callable[[Any], bool], str]


def _number(accepts: Callable[[float], bool], what: str) -> Rule:
    return (lambda value: isinstance(value, numbers.Real) and accepts(float(value)), what)


def _one_of(*names: str) -> Rule:
    return (lambda value: value in names, "one of " + ", ".join(names))


def _all(rule: Rule) -> Rule:
    accepts, what = rule
    return (lambda values: all(map(accepts, values)), f"numbers {what}, in brackets")


_POSITIVE = _number(lambda x: 0 < x < float("inf"), "above 0")
_AT_LEAST_0 = _number(lambda x: 0 <= x < float("inf"), "0 or more")
_AT_LEAST_1 = _number(lambda x: 1 <= x < float("inf"), "1 or more")
_FRACTION = _number(lambda x: 0 <= x <= 1, "in 0..1")
_BELOW_1 = _number(lambda x: 0 <= x < 1, "in 0..1, below 1")
_SEED = _number(lambda x: 0 <= x < 2**31, "in 0..2^31 - 1")
_MOST_PIXELS = 2**26  # of a picture as it is made for a network
_SIZE: Rule = (
    lambda value: (
        len(value) in (0, 2)
        and all(isinstance(side, int) and side > 0 for side in value)
        and math.prod(value) <= _MOST_PIXELS
    ),
    f"(height, width) in pixels, at most {_MOST_PIXELS:,} in all, or ()",
)
_SHAPE: Rule = (
    lambda value: (
        len(value) == 3
        and all(isinstance(side, int) and side > 0 for side in value)
        and math.prod(value) <= _MOST_PIXELS
    ),
    f"(height, width, channels), at most {_MOST_PIXELS:,} values",
)

RULES: dict[str, Rule] = {
    "seed": _SEED,
    "ensemble_size": _AT_LEAST_1,
    "ensemble_way": _one_of("auto", "vmap", "turns", "unrolled", "map"),
    "ensemble_seeds": _all(_SEED),
    "ensemble_learning_rates": _all(_POSITIVE),
    "data.split_seed": _SEED,
    "data.validation_fraction": _BELOW_1,
    "data.test_fraction": _BELOW_1,
    "data.fold": _number(lambda x: x >= -1, "-1 or more"),
    "data.fold_repeats": _AT_LEAST_1,
    "data.folds": _AT_LEAST_0,
    "data.train_examples": _AT_LEAST_0,
    "data.batch_size": _AT_LEAST_1,
    "data.eval_batch_size": _AT_LEAST_1,
    "data.color": _one_of("keep", "gray", "rgb"),
    "data.image_size": _SIZE,
    "data.resize": _one_of("crop", "pad", "stretch", "fit"),
    "data.crop_from": _AT_LEAST_0,
    "data.interpolation": _one_of("nearest", "bilinear", "bicubic", "lanczos"),
    "data.on_bad_image": _one_of("error", "skip"),
    "data.max_resident_gib": _POSITIVE,
    "data.stream": _one_of("auto", "true", "false"),
    "data.workers": _AT_LEAST_0,
    "data.threads": _AT_LEAST_0,
    "data.prefetch": _AT_LEAST_1,
    "data.synthetic.num_examples": _AT_LEAST_1,
    "data.synthetic.image_shape": _SHAPE,
    "data.synthetic.num_classes": _number(lambda x: x >= 2, "2 or more"),
    "task.class_weights": _one_of("none", "balanced"),
    "task.label_smoothing": _BELOW_1,
    "task.ssim_weight": _AT_LEAST_0,
    "task.kl_weight": _AT_LEAST_0,
    "task.sparsity_weight": _AT_LEAST_0,
    "task.sparsity": _one_of("l1", "kl"),
    "task.sparsity_target": _number(lambda x: 0 < x < 1, "above 0, below 1"),
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.momentum": _BELOW_1,
    "optimizer.beta1": _BELOW_1,
    "optimizer.beta2": _BELOW_1,
    "optimizer.epsilon": _POSITIVE,
    "optimizer.weight_decay": _AT_LEAST_0,
    "optimizer.l1": _AT_LEAST_0,
    "optimizer.l2_sp": _AT_LEAST_0,
    "optimizer.l2_sp_new": _AT_LEAST_0,
    "optimizer.decay": _one_of("kernels", "all"),
    "optimizer.clip_norm": _AT_LEAST_0,
    "schedule.warmup_epochs": _AT_LEAST_0,
    "schedule.warmup_steps": _AT_LEAST_0,
    "optimizer.lookahead": _AT_LEAST_0,
    "optimizer.lookahead_decay": _FRACTION,
    "optimizer.lookahead_power": _AT_LEAST_0,
    "schedule.initial_fraction": _FRACTION,
    "schedule.factor": _POSITIVE,
    "schedule.final_fraction": _FRACTION,
    "schedule.power": _POSITIVE,
    "train.num_epochs": _number(lambda x: 0 < x <= 1e9, "above 0, at most a billion"),
    "train.num_steps": _number(lambda x: 1 <= x < 2**31, "in 1..2^31 - 1"),
    "train.eval_every_epochs": _POSITIVE,
    "train.eval_every_steps": _AT_LEAST_1,
    "train.checkpoint_every_epochs": _POSITIVE,
    "train.checkpoint_every_steps": _AT_LEAST_1,
    "train.keep_checkpoints": _AT_LEAST_1,
    "train.log_every_steps": _AT_LEAST_1,
    "train.steps_per_dispatch": _AT_LEAST_0,
    "train.accumulate": _AT_LEAST_1,
    "train.shard_params": _AT_LEAST_0,
    "train.dtype": _one_of("float32", "bfloat16"),
    "train.matmul_precision": _one_of("default", "high", "highest"),
    "train.ema_decay": _BELOW_1,
    "eval.protocol": _one_of("single", "center", "tencrop", "dense", "multiscale", "tta"),
    "eval.averaging": _one_of("probabilities", "logits"),
    "eval.resize": _AT_LEAST_0,
    "eval.crop": _SIZE,
    "eval.scales": (
        lambda value: all(isinstance(side, int) and side > 0 for side in value),
        "short sides in pixels, (256, 384), or ()",
    ),
    "eval.views": _one_of("mirror", "mirror_shift", "augment"),
    "eval.num_views": _number(lambda x: x >= 2, "2 or more"),
}
