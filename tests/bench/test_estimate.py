# SPDX-License-Identifier: Apache-2.0
"""Seconds worked out by hand; a step compiled for the devices at hand; the command."""

import importlib.util
import json

import jax
import pytest

from cnnjax import devices
from cnnjax.bench import slices
from cnnjax.bench.collectives import Collective
from cnnjax.bench.estimate import CHIPS, HOP, SLOW_HOP, collective_seconds, estimate, format_estimate, parse_slice
from cnnjax.bench.slices import Program, compile_step
from cnnjax.bench.subject import load_subject
from cnnjax.commands import main
from cnnjax.config import load_config
from cnnjax.errors import UsageError

V5E = CHIPS["v5e"]
SUM = Collective("all-reduce", 100_000_000, 200e6)
SMALL = ["--config.model.hidden=(4,)", "--config.data.batch_size=8"]


def test_a_slice_is_a_chip_and_two_axes():
    assert parse_slice("v5e:16x16") == (V5E, (16, 16)) and parse_slice("v6e:2x4")[1] == (2, 4)
    for name, told in (("v5:2x2", "unknown chip"), ("v5e:16", "no CHIP:ROWSxCOLUMNS"), ("v5e:0x4", "no CHIP")):
        with pytest.raises(UsageError, match=told):
            parse_slice(name)


def test_a_collective_takes_its_way_and_its_bytes():
    # Two rings of 16: 8 + 8 hops to the farthest chip, there and back; 200 MB by four links of 50 GB/s.
    assert collective_seconds(SUM, V5E, (16, 16), 1e-6) == pytest.approx((32e-6, 1e-3))
    # A gathering goes one way only; lines of 2 and 4 have 1 + 3 hops and two links.
    gather = SUM._replace(name="all-gather")
    assert collective_seconds(gather, V5E, (2, 4), 1e-6) == pytest.approx((4e-6, 2e-3))
    assert collective_seconds(SUM, V5E, (1, 1), 1e-6) == (0.0, 0.0)


def test_a_step_under_three_assumptions():
    # 10 ms of arithmetic, 20 ms of memory, two short sums of 32 us, one of 1 ms.
    tiny = Collective("all-reduce", 256, 512.0)
    program = Program(1.97e12, 0.02 * 819e9, 0, (tiny, SUM, tiny))
    found = estimate(program, V5E, (16, 16), 2560)
    assert (found["arithmetic"], found["memory"]) == pytest.approx((0.01, 0.02))
    assert found["short_sums"] == {
        "count": 2,
        "seconds": pytest.approx(64e-6),
        "slow_seconds": pytest.approx(64e-6 * SLOW_HOP / HOP),
    }
    assert found["long_sums"] == {"count": 1, "bytes": 200_000_000, "seconds": pytest.approx(1e-3)}
    seconds = {name: case["seconds"] for name, case in found["cases"].items()}
    slow = 64e-6 * 8 / 3
    assert seconds == pytest.approx({"limit": 0.010064, "roofline": 0.020064, "in turn": 0.031 + slow})
    assert found["cases"]["limit"]["efficiency"] == pytest.approx(0.01 / 0.010064)
    assert found["cases"]["roofline"]["images_per_second"] == pytest.approx(2560 / 0.020064)


def test_a_step_is_compiled_and_counted():
    """For the devices at hand, as it is for those of a slice."""
    config = load_config("experiments/default.py", SMALL)
    subject = load_subject(config, synthetic=True, image="8x8x1", num_classes=3, examples=1)
    mesh = devices.make_mesh()
    found = compile_step(subject, mesh)
    # 8 / n images, 64 * 4 + 4 * 3 multiply-adds: forward, and both gradients but that of the input.
    products = 2 * 8 // mesh.size * (2 * 64 * 4 + 3 * 4 * 3)
    assert products < found.flops < 3 * products  # the rest is preparation, activation, loss and optimizer
    sums = [one.result_bytes for one in found.collectives if one.name == "all-reduce"]
    assert max(sums) >= 64 * 4 * 4  # of the gradients, float32
    assert found.memory_bytes > 0 and found.accessed_bytes > 0
    divided = load_config("experiments/default.py", [*SMALL, "--config.train.shard_params=16"])
    names = {one.name for one in compile_step(subject._replace(config=divided), mesh).collectives}
    assert "all-gather" in names
    with pytest.raises(UsageError, match="does not divide over 2 devices"):
        compile_step(
            subject._replace(config=load_config("experiments/default.py", [*SMALL[:1], "--config.data.batch_size=9"])),
            mesh,
        )


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    argv = ["bench", "--mode=estimate", "--config=experiments/default.py", *SMALL, "--slice=v5e:1x2"]
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "libtpu" else find(name, *_))
    assert main(argv) == 2 and "uv sync --extra tpu" in capsys.readouterr().err
    monkeypatch.setattr(slices, "slice_mesh", lambda name: devices.make_mesh())
    assert jax.device_count() == 2
    assert main([*argv, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["chips"] == 2 and set(document["estimate"]["cases"]) == {"limit", "roofline", "in turn"}
    text = format_estimate(document)
    assert "batch 8 in all, 4 a chip, on v5e:1x2: an estimate" in text and "hosts: 1" in text
    assert [line.split("  ")[0] for line in text.splitlines()[-7:-3]][1:] == ["limit", "roofline", "in turn"]
    assert main([*argv, "--peer=flax"]) == 2
