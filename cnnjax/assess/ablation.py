# SPDX-License-Identifier: Apache-2.0
"""An ablation: what each part of a recipe gains alone, and what is lost without it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax import workdir as folder
from cnnjax.config import MEMBERS_FILE, flatten, load_config
from cnnjax.ensemble.configs import with_values
from cnnjax.ensemble.training import read_diverged, train_together
from cnnjax.errors import UsageError, unknown
from cnnjax.metrics import format_metric
from cnnjax.page.record import METRICS
from cnnjax.parts import build
from cnnjax.report.environment import to_plain, write_json
from cnnjax.report.table import format_table
from cnnjax.types import Config

TOGETHER = ("augment.crop_area", "augment.crop_aspect"), ("augment.mirror", "augment.mirror_mode")
"""Keys that are one part: the second does nothing without the first."""
PASSIVE = frozenset({"augment.fill"})
"""Keys of a section that change nothing by themselves: they stay as the config has them."""
NONE, ALL = "none", "all"


class Setting(NamedTuple):
    """One row of the table: `name`, for folders and people, and the keys that are switched off."""

    name: str
    off: dict[str, Any]


def parts_of(config: Config, over: str, defaults: Config) -> dict[str, dict[str, Any]]:
    """The parts of `config` that are ablated, each with the values that switch its keys off.

    Args:
      config: the whole recipe.
      over: a section, all of whose keys that differ from the defaults are parts; or keys with commas between them,
        those of one part joined by "+".
      defaults: the schema's own values: what off means.

    Raises:
      UsageError: an unknown key, or one that the config leaves at its default, so that nothing can be switched off.
    """
    own, off = flatten(config), flatten(defaults)
    if over in config and over not in own:
        changed = [key for key in own if key.startswith(f"{over}.") and key in off and own[key] != off[key]]
        groups = [tuple(key for key in group if key in changed) for group in TOGETHER if group[0] in changed]
        alone = [key for key in changed if key not in PASSIVE and not any(key in group for group in TOGETHER)]
        order = sorted([*groups, *((key,) for key in alone)], key=lambda group: changed.index(group[0]))
        if not order:
            raise UsageError(f"config.{over} switches nothing on, so there is nothing to ablate: set some of its keys")
    else:
        order = [tuple(part.split("+")) for part in over.split(",")]
    for key in (key for group in order for key in group):
        if key not in off or key not in own:
            raise UsageError(f"{unknown('key', f'config.{key}', [f'config.{name}' for name in off], 4)} (--over)")
        if own[key] == off[key]:
            raise UsageError(f"config.{key} = {own[key]!r} is the default, so it is off already: set it to ablate it")
    return {_short(group, order): {key: off[key] for key in group} for group in order}


def settings_of(parts: dict[str, dict[str, Any]]) -> list[Setting]:
    """None of the parts, each alone, all but each, and all; settings that are the same appear once."""

    def without(names: Sequence[str]) -> dict[str, Any]:
        return {key: value for name in names for key, value in parts[name].items()}

    names = list(parts)
    found = [Setting(NONE, without(names))]
    if len(names) > 1:  # of one part, alone is all and without it is none
        found += [Setting(f"only_{name}", without([n for n in names if n != name])) for name in names]
        found += [Setting(f"without_{name}", without([name])) for name in names]
    found.append(Setting(ALL, {}))
    return [setting for i, setting in enumerate(found) if setting.off not in [each.off for each in found[:i]]]


def ablate(
    spec: str | None, overrides: Sequence[str], workdir: str, *, over: str, seeds: Sequence[int], at_once: int | None
) -> dict[str, Any]:
    """Trains every setting with every seed, or goes on where it was stopped; returns the results (`collect`).

    Seeds of a setting train in one compiled step.

    Raises:
      UsageError, RunError: as of a single run; what is saved stays.
      Stop: a signal ended it early.
    """
    config = load_config(spec, overrides)
    defaults = load_config(str(Path(__file__).parents[2] / "experiments/default.py"))
    parts = parts_of(config, over, defaults)
    settings, path = settings_of(parts), Path(workdir).expanduser()
    folder.check_kind(path, "ablation")
    configs = {s.name: [with_values(config, {**s.off, "seed": seed}) for seed in seeds] for s in settings}
    for each in configs.values():
        build(each[0])  # what is wrong with one is told before the others have trained for hours
    with folder.hold(path):
        names = [_run_name(setting, seed) for setting in settings for seed in seeds]
        write_json(path / MEMBERS_FILE, {"kind": "ablation", "members": names, "over": over})
        for setting in settings:
            runs = [path / _run_name(setting, seed) for seed in seeds]
            first = build(configs[setting.name][0])
            train_together(first, configs[setting.name], runs, at_once=at_once, draws=False)
            write_json(path / folder.RESULTS_FILE, collect(path, settings, seeds))
    return collect(path, settings, seeds)


def collect(path: Path, settings: Sequence[Setting], seeds: Sequence[int]) -> dict[str, Any]:
    """What came of it so far.

    Returns:
      A document for `write_json`: `metric`, `split`, and `settings`: `name`, `off`, `runs` (how many have ended),
      `diverged`, `values`, `mean`, `std` (over seeds, n - 1; None of one), `gain_over_none`, `gain_over_all`, and
      `standard_error` of the first.
    """
    found: list[dict[str, Any]] = []
    splits: list[dict[str, dict[str, float]]] = []
    for setting in settings:
        runs = [path / _run_name(setting, seed) for seed in seeds]
        last = [folder.read_results(r)["last"] for r in runs if _ended(r)]
        splits += last
        diverged = sum(read_diverged(run) is not None for run in runs)
        found.append({"name": setting.name, "off": setting.off, "runs": len(last), "diverged": diverged, "last": last})
    if not splits:
        return to_plain({"kind": "ablation", "metric": None, "split": None, "settings": []})
    split = "test" if "test" in splits[0] else "validation"
    metric = next((name for name in METRICS if all(name in each[split] for each in splits)), "loss")
    for each in found:
        values = each["values"] = [last[split][metric] for last in each.pop("last")]
        each["mean"] = float(np.mean(values)) if values else None
        each["std"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    by_name = {each["name"]: each for each in found}
    for each in found:
        for other in (NONE, ALL):
            known = each["mean"] is not None and by_name[other]["mean"] is not None
            each[f"gain_over_{other}"] = each["mean"] - by_name[other]["mean"] if known else None
        each["standard_error"] = _standard_error(each, by_name[NONE])
    return to_plain({"kind": "ablation", "metric": metric, "split": split, "settings": found})


def format_ablation(document: dict[str, Any]) -> str:
    """The document as a table."""
    metric, rows = document["metric"], []
    if metric is None:
        return "no run has ended yet"

    def difference(value: float | None) -> str:
        if value is None:
            return "-"
        return f"{100 * value:+.2f}%" if metric.endswith("accuracy") else f"{value:+.4f}"

    for each in document["settings"]:
        mean = "-" if each["mean"] is None else format_metric(metric, each["mean"])
        spread = "-" if each["std"] is None else difference(each["std"]).lstrip("+")
        error = "" if not each["standard_error"] else f" ± {difference(each['standard_error']).lstrip('+')}"
        gain = "" if each["name"] == NONE else difference(each["gain_over_none"]) + error
        rest = "" if each["name"] == ALL else difference(each["gain_over_all"])
        rows.append((each["name"].replace("_", " ", 1), each["runs"], mean, spread, gain, rest))
    header = ("", "n", f"{document['split']} {metric}", "std", "over none, ± standard error", "over all")
    return format_table(header, rows, "lrrrrr")


def _ended(run: Path) -> bool:
    return read_diverged(run) is None and (run / folder.RESULTS_FILE).is_file()


def _standard_error(one: dict[str, Any], other: dict[str, Any]) -> float | None:
    """Of the difference of two means over different runs."""
    if one["name"] == other["name"] or one["std"] is None or other["std"] is None:
        return None
    return math.sqrt(one["std"] ** 2 / one["runs"] + other["std"] ** 2 / other["runs"])


def _run_name(setting: Setting, seed: int) -> str:
    return f"{setting.name},seed={seed}"


def _short(group: Sequence[str], order: Sequence[Sequence[str]]) -> str:
    """The last word of the first key, where that tells the parts apart."""
    words = [each[0].rpartition(".")[2] for each in order]
    word = group[0].rpartition(".")[2]
    return word if words.count(word) == 1 else group[0]
