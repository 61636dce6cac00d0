# SPDX-License-Identifier: Apache-2.0
"""Collectives are read from a real program; a process for each number of devices; the table."""

import json
import subprocess
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cnnjax import devices
from cnnjax.architectures import timing
from cnnjax.bench import scaling
from cnnjax.bench.collectives import Collective, list_collectives, sum_up
from cnnjax.commands import main
from cnnjax.errors import RunError


def test_collectives_of_a_compiled_program():
    mesh = devices.make_mesh()
    n = mesh.size
    assert n > 1  # conftest makes several
    rows, whole = NamedSharding(mesh, PartitionSpec("data")), devices.replicated(mesh)
    x = jax.ShapeDtypeStruct((4 * n, 3), jnp.float32, sharding=rows)
    summed = jax.jit(lambda x: x.sum(axis=0), out_shardings=whole).lower(x).compile().as_text()
    found = sum_up(list_collectives(str(summed), n))
    assert found.count == {"all-reduce": 1}
    assert (found.result_bytes, found.sent_bytes) == (12, round(2 * (n - 1) / n * 12))
    gathered = jax.jit(lambda x: x * 2, out_shardings=whole).lower(x).compile().as_text()
    found = sum_up(list_collectives(str(gathered), n))
    assert found.count == {"all-gather": 1}
    assert (found.result_bytes, found.sent_bytes) == (4 * n * 12, (n - 1) * 4 * 12)


def test_collectives_of_several_arrays_and_types():
    text = """
  %all-reduce.1 = (f32[3,2]{1,0}, /*index=1*/bf16[4]{0}, pred[], f8e4m3fn[5]) all-reduce(%a, %b, %c, %d), channel_id=1
  %rs = f32[2]{0} reduce-scatter(%a), dimensions={0}
  %x = (f32[8]{0}, f32[8]{0}) collective-permute-start(%a)
  %y = f32[8]{0} collective-permute-done(%x)
  %add = f32[9]{0} add(%a, %b), metadata={op_name="all-reduce(1)"}
"""
    found = sum_up(list_collectives(text, 4))
    assert found.count == {"all-reduce": 1, "reduce-scatter": 1, "collective-permute": 1}
    assert found.result_bytes == (24 + 8 + 1 + 5) + 8 + 32
    assert found.sent_bytes == round(1.5 * 38 + 3 * 8 + 32)


def test_a_sum_of_which_a_device_keeps_a_part_is_a_reduce_scatter():
    text = """
%all-reduce-scatter.2 (input: f32[8,4]) -> f32[2,4] {
  %all-reduce.1 = f32[8,4]{1,0} all-reduce(%input), channel_id=7
  ROOT %part = f32[2,4]{1,0} dynamic-slice(%all-reduce.1, %a, %b)
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %all-reduce.2 = f32[4]{0} all-reduce(%a), channel_id=8
}
"""
    assert list_collectives(text, 4) == [
        Collective("reduce-scatter", 32, 96),  # a part of 32 bytes from each of three
        Collective("all-reduce", 16, 24.0),
    ]


def test_a_process_for_each_number_of_devices(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    asked = []

    def run(argv, *, input, env, **_):
        count = int(env["JAX_NUM_CPU_DEVICES"])
        divided = scaling.DIVIDED in json.loads(input)["overrides"]
        asked.append((count, divided))
        moved = {"count": {"all-reduce": 2 * (count > 1)}, "result_bytes": 10, "sent_bytes": 1000 * count}
        seconds = {"median": 0.5 * count, "min": 0.4, "max": 9.0}
        told = {"devices": count, "seconds": seconds, "collectives": moved, "argument_bytes": 2**20}
        return SimpleNamespace(returncode=0, stdout=f"noise\n{json.dumps(told)}\n", stderr="")

    monkeypatch.setattr(timing, "machine", lambda: "a machine")
    monkeypatch.setattr(subprocess, "run", run)
    assert main(["bench", "--mode=scaling", "--config=experiments/default.py", "--rounds=2"]) == 0
    assert asked == [(1, False), *((n, divided) for n in (2, 4, 8) for divided in (False, True))]
    table = capsys.readouterr().out.splitlines()
    assert [row.split()[:2] for row in table[4:6]] == [["1", "whole"], ["2", "whole"]]
    assert "4.00 s (400 ms to 9.00 s)" in table[9] and "8.00" in table[9]
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stdout="", stderr="a\nno\n"))
    with pytest.raises(RunError, match="measuring 1 devices failed: no"):
        scaling.measure_scaling(scaling.Setup("experiments/default.py", [], 1))


def test_the_child_measures_this_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    setup = scaling.Setup("experiments/default.py", ["--config.model.hidden=(4,)", "--config.data.batch_size=8"], 1)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(read=lambda: json.dumps(setup._asdict())))
    scaling.child()
    told = json.loads(capsys.readouterr().out)
    assert told["devices"] == jax.device_count() and told["seconds"]["median"] > 0
    assert told["collectives"]["count"]["all-reduce"] >= 1 and told["argument_bytes"] > 0
