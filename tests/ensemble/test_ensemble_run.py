# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil
import signal

import numpy as np
import pytest

from cnnjax import pictures
from cnnjax.ensemble import ensemble_run, training
from cnnjax.ensemble.ensemble_run import train_ensemble
from cnnjax.ensemble.training import going_on, train_together
from cnnjax.errors import RunError, UsageError
from cnnjax.experiment import load_network
from cnnjax.parts import build
from cnnjax.report.log import RunLog, read_metrics
from cnnjax.stopping import Stop
from cnnjax.training_run import train_run
from cnnjax.workdir import members

SHORT = ("train.num_steps=4", "model.dropout_rate=0.2", "augment.shift=1")


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch):
    """What is drawn of a run is tested where it is drawn."""
    monkeypatch.setattr(pictures, "draw", lambda *_: None)


def parameters(workdir) -> np.ndarray:
    network = load_network(str(workdir))
    return np.concatenate([np.ravel(x) for layer in network.params.values() for x in layer.values()])


def test_every_member_is_a_run_that_equals_the_separate_one(tiny, tmp_path):
    text = train_ensemble(tiny(*SHORT, "ensemble_size=2", "seed=3"), str(tmp_path / "all"))
    assert members(tmp_path / "all") == [tmp_path / "all/member0", tmp_path / "all/member1"]
    results = json.loads((tmp_path / "all/results.json").read_text())
    for i, member in enumerate(members(tmp_path / "all")):
        train_run(tiny(*SHORT, f"seed={3 + i}"), str(tmp_path / f"alone{i}"))
        np.testing.assert_allclose(parameters(member), parameters(tmp_path / f"alone{i}"), rtol=1e-4, atol=1e-6)
        ours, theirs = (read_metrics(path) for path in (member, tmp_path / f"alone{i}"))
        assert [(r["step"], r["split"]) for r in ours] == [(r["step"], r["split"]) for r in theirs]
        for mine, other in zip(ours, theirs, strict=True):
            for name in {"loss", "accuracy", "gradient_norm", "learning_rate", "epoch"} & other.keys():
                assert mine[name] == pytest.approx(other[name], rel=1e-3), (name, mine, other)
        alone = json.loads((tmp_path / f"alone{i}/results.json").read_text())
        assert results["members"][i]["last"]["test"]["loss"] == pytest.approx(alone["last"]["test"]["loss"], rel=1e-4)
        assert results["members"][i]["seed"] == 3 + i
        assert json.loads((member / "config.json").read_text()) == json.loads(
            (tmp_path / f"alone{i}/config.json").read_text()
        )
    losses = [m["last"]["test"]["loss"] for m in results["members"]]
    assert losses[0] != losses[1] and results["mean"]["test"]["loss"] == pytest.approx(np.mean(losses))
    assert results["std"]["test"]["loss"] == pytest.approx(np.std(losses, ddof=1))
    assert results["ensemble"]["test"]["loss"] < results["mean"]["test"]["loss"]  # by Jensen's inequality
    assert "ensemble" in text and "member1" in text
    again = train_ensemble(tiny(*SHORT, "ensemble_size=2", "seed=3"), str(tmp_path / "all"))
    assert json.loads((tmp_path / "all/results.json").read_text()) == results and "ensemble" in again


def test_one_that_diverges_is_named_and_the_others_go_on(tiny, tmp_path):
    config = tiny(*SHORT, "ensemble_learning_rates=(0.05,1e30,0.1)")
    with pytest.raises(RunError, match=r"^1 of 3 members diverged; the other 2 are trained.* member1: .* at step "):
        train_ensemble(config, str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    assert [m["name"] for m in results["members"]] == ["member0", "member2"] and results["diverged"] == ["member1"]
    with pytest.raises(RunError, match=r"^2 of 2 members diverged; none is left"):
        train_ensemble(tiny(*SHORT, "ensemble_learning_rates=(1e30,1e31)"), str(tmp_path / "none"))


def test_an_ensemble_stopped_or_killed_ends_bit_for_bit_as_one_that_was_not(tiny, tmp_path, monkeypatch):
    config = tiny(*SHORT, "train.num_steps=6", "ensemble_size=2")
    train_ensemble(config, str(tmp_path / "whole"))
    write = RunLog.write

    def stopping(log, at, split, metrics):
        write(log, at, split, metrics)
        if at == 2 and split == "train":
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "write", stopping)
        with pytest.raises(Stop) as stop:
            train_ensemble(config, str(tmp_path / "stopped"))
    assert stop.value.step == 2 and not (tmp_path / "stopped/results.json").exists()
    train_ensemble(config, str(tmp_path / "stopped"))
    for name in ("member0", "member1"):
        np.testing.assert_array_equal(parameters(tmp_path / "whole" / name), parameters(tmp_path / "stopped" / name))
    # Killed between the last checkpoints of its members, it goes on from the step that both have.
    for name in ("results.json", "member0/results.json", "member1/results.json"):
        (tmp_path / "whole" / name).unlink()
    shutil.rmtree(tmp_path / "whole/member1/checkpoints/6")
    train_ensemble(config, str(tmp_path / "whole"))
    assert [r["step"] for r in read_metrics(tmp_path / "whole/member0") if r["split"] == "train"] == [2, 4, 6]
    np.testing.assert_array_equal(parameters(tmp_path / "whole/member1"), parameters(tmp_path / "stopped/member1"))


def test_runs_go_on_from_the_last_step_they_have_in_common():
    assert going_on({}) == {}
    assert going_on({0: [], 3: []}) == {None: [0, 3]}
    assert going_on({0: [2, 4], 1: [4, 6], 2: [4]}) == {4: [0, 1, 2]}
    assert going_on({0: [4], 1: [6], 2: [4], 3: []}) == {4: [0, 2], 6: [1], None: [3]}


def test_as_many_at_once_as_allowed_or_as_fit(tiny, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(training, "build_together", lambda parts, configs, way: trained.append(len(configs)) or 1 / 0)
    configs, paths = [tiny(f"seed={i}") for i in range(5)], [tmp_path / str(i) for i in range(5)]
    parts = build(configs[0])
    with pytest.raises(ZeroDivisionError):
        train_together(parts, configs, paths, at_once=3)

    def refusing(parts, configs, way):
        trained.append(len(configs))
        raise training.TooLarge("too large") if len(configs) > 2 else ZeroDivisionError

    monkeypatch.setattr(training, "build_together", refusing)
    with pytest.raises(ZeroDivisionError):
        train_together(parts, configs, paths)
    assert trained == [3, 5, 3, 2]
    with pytest.raises(training.TooLarge):
        train_together(parts, configs, paths, at_once=4)


def test_a_folder_holds_one_kind_of_thing(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble_run, "train_together", lambda *_, **__: None)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(tiny().to_json())
    with pytest.raises(UsageError, match="holds a single run already"):
        train_ensemble(tiny("ensemble_size=2"), str(tmp_path / "run"))
    with pytest.raises(UsageError, match="unknown model"):
        train_ensemble(tiny("ensemble_size=2", "model.name=lenet6"), str(tmp_path / "all"))
    assert not (tmp_path / "all").exists()
    train_ensemble(tiny("ensemble_size=2"), str(tmp_path / "all"))
    with pytest.raises(UsageError, match="holds an ensemble already"):
        train_run(tiny(), str(tmp_path / "all"))
    with pytest.raises(UsageError, match=r"another config \(1 keys differ: config.ensemble_size\).*--accept_changes"):
        train_ensemble(tiny("ensemble_size=3"), str(tmp_path / "all"))
    train_ensemble(tiny("ensemble_size=3"), str(tmp_path / "all"), accept_changes=True)
    assert [path.name for path in members(tmp_path / "all")] == ["member0", "member1", "member2"]
