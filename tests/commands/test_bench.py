# SPDX-License-Identifier: Apache-2.0
import importlib.util
import json

import pytest

from cnnjax.bench.peers import check_installed
from cnnjax.bench.subject import load_subject
from cnnjax.bench.whole import Options, measure
from cnnjax.commands import main
from cnnjax.config import load_config
from cnnjax.errors import RunError, UsageError

KEYS = ["config", "mode", "device", "batch_size", "images_per_second", "compile_seconds", "peer", "ratio"]
KEYS.append("peak_fraction")
QUICK = Options(rounds=2, warmup=1, steps=1, peak_sides=(64,))


def test_the_command(capsys: pytest.CaptureFixture[str]):
    argv = ["bench", "--config=experiments/default.py", "--config.model.hidden=(8,)", "--rounds=2", "--steps=1"]
    assert main([*argv, "--batch_size=16", "--mode=input", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document)[: len(KEYS)] == KEYS
    assert (document["config"], document["mode"]) == ("experiments/default.py", "input")
    assert document["batch_size"] == 16 and document["peak_fraction"] is None
    rate = document["images_per_second"]
    assert 0 < rate["min"] <= rate["median"] <= rate["max"]
    assert main([*argv, "--rounds=0"]) == 2 and "--rounds is 0" in capsys.readouterr().err
    assert main([*argv, "--mode=input", "--peer=flax"]) == 2 and "has no peer" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_ours_beside_plain_flax(tiny, mode):
    document, text = measure(tiny("augment.shift=1"), "tiny", QUICK._replace(mode=mode, peer="flax"))
    assert list(document)[: len(KEYS)] == KEYS
    assert document["peer"]["name"] == "flax" and document["peer"]["how"] in text
    assert document["ratio"]["min"] <= document["ratio"]["median"] <= document["ratio"]["max"]
    # 64 * 8 + 8 * 3 multiply-adds an image, three times that with both gradients.
    peak = document["matrix_product_peak"]["multiply_adds_per_second"]
    done = 536 * (3 if mode == "train" else 1) * document["images_per_second"]["median"]
    assert document["peak_fraction"] == pytest.approx(done / peak)
    assert all(document["split"][f"{part}_seconds"] >= 0 for part in ("data", "host", "compute", "prepare"))
    assert "bottleneck: " in text and document["memory"]["process_peak_bytes"] > 2**20


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_ours_beside_torch(tiny, mode, monkeypatch: pytest.MonkeyPatch):
    torch = pytest.importorskip("torch")

    def broken(_):
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(torch, "compile", broken)
    document, text = measure(tiny(), "tiny", QUICK._replace(mode=mode, peer="torch"))
    assert document["peer"]["how"] == "torch, eager" and list(document["peer"]["ways"]) == ["torch, eager"]
    assert "torch.compile does not work here: RuntimeError: no compiler" in text
    assert set(document["matrix_product_peak"]["all"]) == {"jax", "torch"}
    with pytest.raises(UsageError, match=r"optimizer lars; .*sgd, adam"):
        measure(tiny("optimizer.name=lars"), "tiny", QUICK._replace(peer="torch"))
    with pytest.raises(UsageError, match=r"knows no config.optimizer.l1; .* at 0\.0"):
        measure(tiny("optimizer.l1=0.1"), "tiny", QUICK._replace(peer="torch"))


def test_several_networks_are_timed_elsewhere(tiny):
    with pytest.raises(UsageError, match="leave config"):
        measure(tiny("ensemble_size=2"), "tiny", QUICK)


def test_a_peer_that_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match="uv run --group peers"):
        check_installed("torch")
    check_installed("flax")


def test_a_network_of_ones_own(tiny):
    own = "docs/outsiders/plain_jnp.py:net"
    config = tiny(f"model.name={own}", "data.synthetic.image_shape=(32,32,1)")
    document, _ = measure(config, "own", QUICK._replace(mode="eval"))
    assert document["network"] == own and document["peak_fraction"] > 0
    with pytest.raises(UsageError, match="no flax twin"):
        measure(config, "own", QUICK._replace(peer="flax"))


def test_made_up_pictures_where_there_are_no_data(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    config = load_config("experiments/resnet_imagenet.py:18", ["--config.data.batch_size=2"])
    subject = load_subject(config)
    assert (subject.image_shape, subject.num_classes, subject.params) == ((224, 224, 3), 1000, 11_689_512)
    assert "because tfds:imagenet2012 is not on this machine" in subject.data
    config = load_config("experiments/resnet_cifar10.py", [])
    assert load_subject(config, image="16x16x3", num_classes=7).image_shape == (16, 16, 3)
    config = load_config(
        "experiments/default.py", ["--config.data.source=tfds:unheard", "--config.data.image_size=(8,8)"]
    )
    with pytest.raises(UsageError, match="give --num_classes=K"):
        load_subject(config)
