# SPDX-License-Identifier: Apache-2.0
"""Ablations: what is switched off in which run, and the table of their results."""

import json
from pathlib import Path

import numpy as np
import pytest

from cnnjax.assess import ablation
from cnnjax.assess.ablation import Setting, ablate, collect, format_ablation, parts_of, settings_of
from cnnjax.assess.pictures import plot_ablation
from cnnjax.config import load_config
from cnnjax.errors import UsageError

DEFAULT = str(Path(__file__).parents[2] / "experiments/default.py")


def test_the_parts_of_a_section_are_its_keys_that_are_on(tiny):
    config = tiny("augment.mirror=0.5", "augment.shift=2", "augment.crop_area=(0.5,1.0)", "augment.fill=mean")
    parts = parts_of(config, "augment", load_config(DEFAULT))
    assert list(parts) == ["crop_area", "mirror", "shift"]
    assert parts["shift"] == {"augment.shift": 0} and parts["crop_area"] == {"augment.crop_area": (1.0, 1.0)}
    named = parts_of(config, "augment.mirror+augment.shift,optimizer.learning_rate", load_config(DEFAULT))
    assert named == {"mirror": {"augment.mirror": 0.0, "augment.shift": 0}, "learning_rate": named["learning_rate"]}
    assert named["learning_rate"] == {"optimizer.learning_rate": 0.1}


def test_parts_that_are_off_or_unknown(tiny):
    default = load_config(DEFAULT)
    with pytest.raises(UsageError, match="switches nothing on"):
        parts_of(tiny(), "augment", default)
    with pytest.raises(UsageError, match="off already"):
        parts_of(tiny(), "augment.mirror", default)
    with pytest.raises(UsageError, match="unknown key"):
        parts_of(tiny(), "augment.miror", default)


def test_settings_are_none_each_alone_all_but_each_and_all():
    off = {"a": {"x.a": 0}, "b": {"x.b": 0}, "c": {"x.c": 0}}
    settings = settings_of(off)
    assert [s.name for s in settings] == [
        "none", "only_a", "only_b", "only_c", "without_a", "without_b", "without_c", "all",
    ]  # fmt: skip
    assert settings[0].off == {"x.a": 0, "x.b": 0, "x.c": 0} and settings[1].off == {"x.b": 0, "x.c": 0}
    assert settings[4].off == {"x.a": 0} and settings[-1].off == {}
    # Of two parts, without the one is the other alone; of one, alone is all.
    assert [s.name for s in settings_of({"a": {"x.a": 0}, "b": {"x.b": 0}})] == ["none", "only_a", "only_b", "all"]
    assert [s.name for s in settings_of({"a": {"x.a": 0}})] == ["none", "all"]


def finish(path: Path, accuracy: float) -> None:
    path.mkdir(parents=True, exist_ok=True)
    results = {"step": 6, "last": {"validation": {"accuracy": 0.1}, "test": {"loss": 1.0, "accuracy": accuracy}}}
    (path / "results.json").write_text(json.dumps(results))


def test_every_setting_and_seed_is_trained_with_its_config(tmp_path: Path, monkeypatch):
    trained = {}

    def train_together(parts, configs, paths, *, at_once, draws):
        for config, path in zip(configs, paths, strict=True):
            trained[path.name] = (config.seed, config.augment.mirror, config.augment.shift)
            finish(path, 0.5 + 0.1 * (config.augment.mirror > 0) + 0.2 * (config.augment.shift > 0) + config.seed / 100)

    monkeypatch.setattr(ablation, "train_together", train_together)
    monkeypatch.setattr(ablation, "build", lambda config: None)
    overrides = ["--config.augment.mirror=0.5", "--config.augment.shift=1"]
    found = ablate(DEFAULT, overrides, str(tmp_path / "a"), over="augment", seeds=(3, 5), at_once=None)
    assert trained == {
        **{f"none,seed={s}": (s, 0, 0) for s in (3, 5)},
        **{f"only_mirror,seed={s}": (s, 0.5, 0) for s in (3, 5)},
        **{f"only_shift,seed={s}": (s, 0, 1) for s in (3, 5)},
        **{f"all,seed={s}": (s, 0.5, 1) for s in (3, 5)},
    }
    rows = {each["name"]: each for each in found["settings"]}
    assert rows["all"]["mean"] == pytest.approx(0.84) and rows["all"]["std"] == pytest.approx(0.02 / 2**0.5)
    assert rows["only_shift"]["gain_over_none"] == pytest.approx(0.2)
    assert rows["only_shift"]["gain_over_all"] == pytest.approx(-0.1)
    assert rows["only_shift"]["standard_error"] == pytest.approx(np.sqrt(2 * (0.02**2 / 2) / 2))
    text = format_ablation(found)
    assert "+20.00% ± 1.41%" in text and "test accuracy" in text
    plot_ablation(found, tmp_path / "a.png", title="parts")
    assert (tmp_path / "a.png").stat().st_size > 5000
    with pytest.raises(UsageError, match="holds"):
        monkeypatch.setattr(ablation, "train_together", lambda *_, **__: None)
        finish(tmp_path / "b", 0.5)
        (tmp_path / "b" / "config.json").write_text("{}")
        ablate(DEFAULT, overrides, str(tmp_path / "b"), over="augment", seeds=(3,), at_once=None)


def test_a_run_that_has_not_ended_leaves_its_setting_open(tmp_path: Path):
    settings = [Setting("none", {"augment.shift": 0}), Setting("all", {})]
    assert format_ablation(collect(tmp_path, settings, (0,))) == "no run has ended yet"
    finish(tmp_path / "none,seed=0", 0.4)
    found = collect(tmp_path, settings, (0, 1))
    assert [each["runs"] for each in found["settings"]] == [1, 0]
    assert found["settings"][1]["mean"] is None and "-" in format_ablation(found)
