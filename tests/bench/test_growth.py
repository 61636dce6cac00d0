# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnnjax.bench.growth_axes import Point, axes, per_unit
from cnnjax.commands import main


def flat(argv: list[str]) -> dict:
    """What `bench --json` says of a machine that takes 1 ms an image and a layer."""
    flags = dict(arg.split("=", 1) for arg in argv if "=" in arg)
    batch, examples = int(flags["--batch_size"]), int(flags["--examples"])
    depth, side = int(flags["--config.model.depth"]), int(flags["--input"].split("x")[0])
    pixels = batch * side**2
    return {
        "device": "a machine",
        "rounds": 2,
        "images_per_second": {"median": 1000.0 * (32 / side) ** 2 / depth, "min": 1, "max": 2},
        "compile_seconds": 1.0,
        "memory": {"temp_bytes": pixels, "argument_bytes": 3 * examples, "process_peak_bytes": 10**9},
        "params": 1,
        "multiply_adds": 1,
        "seed": flags.get("--config.seed"),
    }


def test_axes_share_the_base():
    base = Point(16, 32, 8, 256)
    found = axes(base)
    assert [axis.field for axis in found] == ["batch_size", "side", "depth", "examples"]
    assert all(getattr(base, axis.field) in axis.values for axis in found)
    assert [axis.field for axis in axes(base._replace(depth=0))] == ["batch_size", "side", "examples"]
    assert [per_unit(axis, base, 32.0) for axis in found] == [2.0, 32.0 / 16 / 1024, 4.0, 32.0]


def test_points_are_kept_and_the_page_says_what_is_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    runs = []

    def run(argv, **_):
        runs.append(argv)
        return SimpleNamespace(returncode=0, stdout=json.dumps(flat(argv)), stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    argv = ["bench", "--mode=growth", "--config=experiments/resnet_cifar10.py", "--config.model.depth=8"]
    argv += ["--batch_size=16", f"--out={tmp_path}"]
    assert main([*argv, "--limit=5"]) == 0
    assert "5 points; 12 are left" in capsys.readouterr().out and len(runs) == 5
    assert main(argv) == 0
    assert len(runs) == 17  # 6 + 5 + 5 + 4 points, of which the base counts once
    assert all("--cold" in run and "--json" in run for run in runs)
    page = (tmp_path / "growth.md").read_text()
    assert "| batch size | 16 | 128 ms | 8.00 ms an image | 1.0 s | 16.0 KiB | 3.0 KiB | 953.7 MiB |" in page
    assert "**depth**" in page and page.count("factor of 1.00, flat") == 6
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    assert main(argv) == 0 and len(runs) == 17
    assert main([*argv, "--config.seed=1", "--limit=1"]) == 0  # another config starts anew
    assert len(json.loads((tmp_path / "growth.json").read_text())["points"]) == 1
    assert main(argv[:-1]) == 2

    failed = SimpleNamespace(returncode=1, stdout="", stderr="error: no room")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    capsys.readouterr()
    assert main([*argv, "--config.seed=2"]) == 1
    assert "failed: error: no room" in capsys.readouterr().err
