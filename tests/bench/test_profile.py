# SPDX-License-Identifier: Apache-2.0
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from cnnjax.bench.hlo import parse
from cnnjax.bench.operations import INPUT, LOSS, OPTIMIZER, OTHER, Label, label_instructions
from cnnjax.bench.profile import summed_up
from cnnjax.bench.trace_file import Interval, Operation, find_trace, read_operations, share_time
from cnnjax.commands import main
from cnnjax.errors import RunError

# A training step as XLA prints it, cut down: conv1 -> relu -> conv2, both kernels updated.
TEXT = """\
HloModule jit_many, is_scheduled=true, entry_computation_layout={()->()}

%fused (p: f32[2,4]) -> f32[2,4] {
  %p = f32[2,4]{1,0} parameter(0)
  ROOT %inner = f32[2,4]{1,0} maximum(%p, %p), metadata={op_name="jit(many)/jvp(Net)/block/relu/max" stack_frame_id=1}
}

%body (t: (f32[3,3,1,2], s32[])) -> (f32[3,3,1,2], s32[]) {
  %t = (f32[3,3,1,2]{3,2,1,0}, /*index=1*/s32[]) parameter(0)
  ROOT %dot.7 = f32[9,2]{1,0} dot(%t, %t), lhs_contracting_dims={0}
}

ENTRY %main.9 (k1: f32[3,3,1,2], k2: f32[3,3,2,4], image: u8[9,8,8,1]) -> (f32[3,3,1,2], f32[3,3,2,4], f32[]) {
  %k1 = f32[3,3,1,2]{3,2,1,0} parameter(0)
  %k2 = f32[3,3,2,4]{3,2,1,0} parameter(1)
  %image = u8[9,8,8,1]{3,2,1,0} parameter(2)
  %rows = f32[2,8,8,1]{3,2,1,0} gather(%image), metadata={op_name="jit(many)/gather"}
  %conv.1 = f32[2,8,8,2]{3,2,1,0} convolution(%rows, %k1), metadata={op_name="jit(many)/jvp(Net)/block/conv1/conv"}
  %relu = f32[2,8,8,2]{3,2,1,0} fusion(%conv.1), kind=kLoop, calls=%fused
  %conv.2 = f32[2,8,8,4]{3,2,1,0} convolution(%relu, %k2), metadata={op_name="jit(many)/jvp(Net)/block/conv2/conv"}
  %loss = f32[] reduce(%conv.2), metadata={op_name="jit(many)/jvp()/reduce_sum"}
  %copy = f32[2,8,8,4]{3,2,1,0} copy(%conv.2)
  %conv.3 = f32[4,3,3,2]{3,2,1,0} convolution(%relu, %copy)
  %conv.4 = f32[2,8,8,2] convolution(%copy, %k2), metadata={op_name="jit(f)/transpose(jvp(Net))/block/conv2/conv"}
  %while.5 = (f32[3,3,1,2]) while(%conv.4), body=%body, metadata={op_name="transpose(jvp(Net))/block/conv1/while"}
  %new1 = f32[3,3,1,2]{3,2,1,0} subtract(%k1, %while.5), metadata={op_name="jit(many)/sub"}
  %new2 = f32[3,3,2,4]{3,2,1,0} subtract(%k2, %conv.3), metadata={op_name="jit(many)/sub"}
  ROOT %tuple = (f32[3,3,1,2], f32[3,3,2,4], f32[]) tuple(%new1, %new2, %loss)
}
"""


def test_instructions_have_the_names_of_layers_and_passes():
    program = parse(TEXT)
    assert program.entry == "main.9" and program.outputs == ("new1", "new2", "loss")
    while_5 = program.computations["main.9"][11]
    assert (while_5.opcode, while_5.operands, while_5.called) == ("while", ("conv.4",), ("body",))
    assert program.computations["body"][0].shape == (3, 3, 1, 2)
    params = {"block": {"conv1": {"kernel": np.zeros((3, 3, 1, 2))}, "conv2": {"kernel": np.zeros((3, 3, 2, 4))}}}
    paths = [".params['block']['conv1']['kernel']", ".params['block']['conv2']['kernel']"]
    labels = label_instructions(program, params, paths)
    expected = {
        "rows": INPUT,
        "conv.1": Label("block/conv1", "forward"),
        "relu": Label("block/relu", "forward"),
        "conv.2": Label("block/conv2", "forward"),
        "loss": LOSS,
        "conv.3": Label("block/conv2", "kernel gradient"),  # without a name; only conv2's kernel follows from it
        "conv.4": Label("block/conv2", "input gradient"),
        "while.5": Label("block/conv1", "kernel gradient"),
        "dot.7": Label("block/conv1", "kernel gradient"),  # inside of the loop
        "new1": OPTIMIZER,
        "new2": OPTIMIZER,
    }
    assert {name: labels[name] for name in expected} == expected
    assert labels["copy"] in (Label("block/conv2", "input gradient"), Label("block/conv2", "kernel gradient"))
    assert str(labels["conv.4"]) == "block/conv2 input gradient"
    assert OTHER not in [labels[name] for name in expected]


def test_operations_are_summed_up_by_label():
    forward, other = Label("conv", "forward"), Label("conv", "input gradient")
    # In a trace the name of a custom call is followed by its target.
    operations = {"a.1__onednn$conv": Operation(4, 3.0), "b": Operation(2, 1.0), "c__d": Operation(2, 4.0)}
    rows = summed_up(operations, {"a.1": forward, "b": forward, "c__d": other}, {"conv/conv": 10}, 6, 2)
    assert [(row["name"], row["share"], row["seconds_per_step"], row["calls_per_step"]) for row in rows] == [
        ("conv forward", 0.5, 2.0, 3.0),
        ("conv input gradient", 0.5, 2.0, 1.0),
    ]
    assert rows[0]["instructions"] == ["a.1__onednn$conv", "b"]
    assert rows[0]["gflops"] == 2 * 10 * 6 / 2.0 / 1e9


def test_moments_are_shared():
    # a alone for 2, a and b for 2, b alone for 1; then a loop of 4 whose body works for 3 of them.
    times = share_time(
        [Interval("a", 0, 4), Interval("b", 2, 5), Interval("while.1", 10, 14), Interval("body", 10.5, 13.5)]
    )
    assert times == {"a": 3.0, "b": 2.0, "while.1": 1.0, "body": 3.0}


def test_a_trace_is_read(tmp_path: Path):
    def event(name, ts, dur, module="jit_many", pid=1):
        return {"ph": "X", "pid": pid, "tid": 1, "name": name, "ts": ts, "dur": dur, "args": {"hlo_module": module}}

    events = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "/host:CPU"}},
        event("conv", 0.0, 1.0),  # hands its work on ...
        {"ph": "X", "pid": 1, "tid": 2, "name": "end: conv", "ts": 4e6},  # ... which is done here
        event("conv", 6e6, 1e6),
        event("add", 8e6, 2e6),
        event("add", 20e6, 2e6, module="jit_other"),
    ]
    path = tmp_path / "plugins/host.trace.json.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": events}).encode()))
    assert find_trace(tmp_path) == path
    assert read_operations(path, "jit_many") == {"conv": Operation(2, 5.0), "add": Operation(1, 2.0)}
    with pytest.raises(RunError, match="no operation of jit_none"):
        read_operations(path, "jit_none")
    device = [{"ph": "M", "pid": 7, "name": "process_name", "args": {"name": "/device:GPU:0"}}]
    device.append(event("conv", 0.0, 3e6, pid=7))
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": events + device}).encode()))
    assert read_operations(path, "jit_many") == {"conv": Operation(1, 3.0)}
    path.write_bytes(b"no gzip")
    with pytest.raises(RunError, match="cannot read the trace"):
        read_operations(path, "jit_many")
    with pytest.raises(RunError, match="no trace below"):
        find_trace(tmp_path / "empty")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = ["profile", "--config=experiments/default.py", "--config.model.hidden=(16,)", "--config.data.batch_size=64"]
    assert main([*argv, f"--out={tmp_path}", "--steps=2", "--warmup=1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "operations.json").read_text()) == document
    assert Path(document["trace"]).is_file() and document["seconds_per_step"] > 0
    rows = {row["name"]: row for row in document["operations"]}
    assert {"hidden1 forward", "hidden1 kernel gradient", "output kernel gradient"} <= set(rows)
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1.0)
    times = [row["seconds_per_step"] for row in document["operations"]]
    assert times == sorted(times, reverse=True)
    row = rows["hidden1 kernel gradient"]  # 64 * 16 multiply-adds an image of 8x8
    assert row["gflops"] == pytest.approx(2 * 64 * 64 * 16 / row["seconds_per_step"] / 1e9)
    assert main(argv) == 2 and "add --out=DIR" in capsys.readouterr().err
