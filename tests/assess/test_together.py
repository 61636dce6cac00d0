# SPDX-License-Identifier: Apache-2.0
"""Several networks evaluated together, without training: networks with random weights."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.assess import networks
from cnnjax.assess.corrupted import corruption_names, under_corruptions
from cnnjax.assess.mixtures import make_mixtures
from cnnjax.assess.networks import Member, Scorer
from cnnjax.assess.together import ensemble
from cnnjax.commands import main
from cnnjax.data import load_dataset
from cnnjax.errors import RunError, UsageError
from cnnjax.evaluate import combined
from cnnjax.experiment import Network, build_model
from cnnjax.protocols.corruptions import corrupt
from cnnjax.workdir import DatasetInfo

SHAPE = (8, 8, 1)


def member(tiny, seed: int, *overrides: str, names=("0", "1", "2"), hidden=8) -> Member:
    config = tiny(f"seed={seed}", f"model.hidden=({hidden},)", *overrides)
    model = build_model(config, 3)
    params, state = jax.jit(model.init)(jax.random.key(seed), jnp.zeros((1, *SHAPE)))
    info = DatasetInfo("synthetic", names, SHAPE, {})
    return Member(f"m{seed}", Path(f"m{seed}"), Network(config, info, model, 6, params, state))


@pytest.fixture
def three(tiny) -> list[Member]:
    names = load_dataset(tiny().data, ("test",)).label_names
    return [member(tiny, seed, names=names) for seed in range(3)]


def test_the_ensemble_is_the_mean_of_probabilities(three):
    scorer = Scorer()
    label = scorer.split(three[0].network, "test").label
    logits = [scorer.logits(each.network, "test") for each in three]
    probability = np.mean([np.asarray(jax.nn.softmax(each)) for each in logits], axis=0)
    whole = combined(logits, "probabilities")
    np.testing.assert_allclose(np.exp(whole), probability, rtol=1e-5)
    np.testing.assert_allclose(combined(logits, "logits"), np.mean(logits, axis=0))
    found = ensemble(three, logits, label, "probabilities")
    accuracy = [np.mean(each.argmax(1) == label) for each in logits]
    assert [each["accuracy"] for each in found["members"]] == pytest.approx(accuracy)
    assert found["mean"] == pytest.approx(np.mean(accuracy)) and found["std"] == pytest.approx(np.std(accuracy, ddof=1))
    together = np.mean(probability.argmax(1) == label)
    assert found["ensemble"]["accuracy"] == pytest.approx(together)
    assert found["ensemble"]["gain_over_best"] == pytest.approx(together - max(accuracy))
    assert found["ensemble"]["gain_over_mean"] == pytest.approx(together - np.mean(accuracy))
    nll = -np.log(probability[np.arange(len(label)), label]).mean()
    assert found["ensemble"]["nll"] == pytest.approx(nll, rel=1e-4)
    assert [(each["first"], each["second"]) for each in found["pairs"]] == [("m0", "m1"), ("m0", "m2"), ("m1", "m2")]


def test_networks_of_other_classes_or_data_are_told(tiny, monkeypatch):
    found = {
        "a": member(tiny, 0),
        "b": member(tiny, 1, names=("0", "1", "x")),
        "c": member(tiny, 2, "data.split_seed=7"),
    }
    monkeypatch.setattr(networks, "load_network", lambda path, *_: found[Path(path).name].network)
    load = networks.load_members
    assert [each.name for each in load(["a"], "latest", ())] == ["a"]
    with pytest.raises(UsageError, match=r"a tells 3 classes \(0, 1, 2\) apart, b 3 classes \(0, 1, x\)"):
        load(["a", "b"], "latest", ())
    with pytest.raises(UsageError, match=r"config.data.split_seed is 0 in a and 7 in c"):
        load(["a", "c"], "latest", ())
    with pytest.raises(UsageError, match="given twice"):
        load(["a", "a"], "latest", ())
    with pytest.raises(UsageError, match="no workdir given"):
        load([], "latest", ())
    with pytest.raises(RunError, match="give it the data it was made for"):
        Scorer().split(found["b"].network, "test")


def test_soups_and_what_does_not_suit_them(tiny, three):
    scorer = Scorer()
    uniform, greedy = make_mixtures(["soup", "greedy"], three, scorer, last=3)
    kernels = [each.network.params["hidden1"]["kernel"] for each in three]
    np.testing.assert_allclose(uniform.weights[0]["hidden1"]["kernel"], np.mean(kernels, axis=0), atol=1e-7)
    label = scorer.split(three[0].network, "validation").label
    alone = [np.mean(scorer.logits(each.network, "validation").argmax(1) == label) for each in three]
    assert greedy.parts[0] == f"m{int(np.argmax(alone))}"
    mixed = scorer.logits(greedy.network, "validation", weights=greedy.weights)
    assert np.mean(mixed.argmax(1) == label) >= max(alone)
    with pytest.raises(UsageError, match="hidden1/bias is float32"):
        make_mixtures(["soup"], [three[0], member(tiny, 1, hidden=9)], scorer, last=3)
    with pytest.raises(UsageError, match="of one run"):
        make_mixtures(["ema"], three, scorer, last=3)
    with pytest.raises(UsageError, match="of several runs"):
        make_mixtures(["soup"], three[:1], scorer, last=3)
    with pytest.raises(RunError, match="keeps no running average"):
        make_mixtures(["ema"], three[:1], scorer, last=3)


def test_corrupted_pictures_reach_the_network(three):
    network, scorer = three[0].network, Scorer()
    split = scorer.split(network, "test")
    found = under_corruptions(lambda change: scorer.logits(network, "test", change=change), split.label, ["contrast"])
    apply = jax.jit(lambda x: network.model.apply(network.params, network.model_state, x, train=False)[0]["logits"])
    slow = []
    for strength in range(1, 6):
        pictures = corrupt(split.image, "contrast", strength) / np.float32(255)
        slow.append(float(np.mean(np.asarray(apply(jnp.asarray(pictures))).argmax(1) == split.label)))
    assert found["kinds"]["contrast"]["accuracy"] == pytest.approx(slow)
    assert found["mean"] == pytest.approx(np.mean(slow))
    assert len(corruption_names("all")) == 8 and corruption_names("jpeg,contrast") == ("jpeg", "contrast")
    with pytest.raises(UsageError, match="unknown corruption 'fog'"):
        corruption_names("fog")


def test_the_command_tells_all_of_it(three, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(networks, "load_members", lambda *_: three)
    flags = ["--average=soup,greedy", "--calibration", "--corruptions=contrast", f"--out={tmp_path}"]
    command = ["evaluate", "--workdir=m0", "--workdir=m1", "--workdir=m2", *flags]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["members"]) == 3 and len(found["pairs"]) == 3 and found["diversity"]["disagreement"] > 0
    assert [each["name"] for each in found["averages"]] == ["uniform soup", "greedy soup"]
    assert found["calibration"]["after"]["nll"] <= found["calibration"]["before"]["nll"] + 0.05
    assert list(found["corruptions"]["kinds"]) == ["contrast"]
    assert {path.name for path in tmp_path.iterdir()} == {"reliability.png", "corruptions.png"}
    assert main(command) == 0
    text = capsys.readouterr().out
    for words in ("ensemble, mean of probabilities", "McNemar p", "uniform soup of 3", "temperature", "strength 1"):
        assert words in text, words
    assert main(["evaluate", "--workdir=m0", "--calibration", "--split=validation"]) == 2
    assert "measures on another --split" in capsys.readouterr().err
    assert main(["predict", "--workdir=m0", "--workdir=m1", "x.png"]) == 2
    assert "--workdir is given 2 times" in capsys.readouterr().err
