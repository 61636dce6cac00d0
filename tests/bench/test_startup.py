# SPDX-License-Identifier: Apache-2.0
import io
import json
import subprocess
import time
from types import SimpleNamespace

import pytest

from cnnjax.architectures import timing
from cnnjax.bench import startup
from cnnjax.bench.startup import PHASES, Start, child, measure_startup
from cnnjax.commands import main
from cnnjax.errors import RunError

START = Start("experiments/default.py", ["--config.model.hidden=(4,)"])


def test_phases_of_fresh_processes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    caches = []

    def run(argv, *, input, env, **_):
        assert json.loads(input)["config"] == START.config
        caches.append(env["JAX_COMPILATION_CACHE_DIR"])
        took = 2.0 if caches.count(caches[-1]) == 1 else 1.0  # of each phase; the second one finds the cache
        moments = [100.0 + took * (i + 1) for i in range(len(PHASES))]
        return SimpleNamespace(returncode=0, stdout=f"noise\n{json.dumps(moments)}\n", stderr="")

    monkeypatch.setattr(timing, "machine", lambda: "a machine")
    monkeypatch.setattr(startup.time, "time", lambda: 100.0)
    monkeypatch.setattr(subprocess, "run", run)
    measured = measure_startup(START, 2)
    assert len(set(caches)) == 2 and [caches.count(cache) for cache in caches] == [2] * 4
    assert {s.median for phase, s in measured["cold"].items() if phase != "total"} == {2.0}
    assert (measured["cold"]["total"].median, measured["warm"]["total"].max) == (12.0, 6.0)
    argv = ["bench", "--mode=startup", f"--config={START.config}", *START.overrides, "--rounds=1"]
    assert main(argv) == 0
    assert "12.0 s (12.0 s to 12.0 s)  6.00 s" in capsys.readouterr().out
    assert main([*argv, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["startup"]["warm"]["total"]["median"] == 6.0 and document["images_per_second"] is None
    assert main([*argv, "--peer=flax"]) == 2

    failed = SimpleNamespace(returncode=1, stdout="", stderr="Traceback\nerror: no such thing")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RunError, match="the cold start failed: error: no such thing"):
        measure_startup(START, 1)


def test_the_fresh_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    began = time.time()
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(START._asdict())))
    child()
    moments = json.loads(capsys.readouterr().out)
    assert len(moments) == len(PHASES) and moments == sorted(moments)
    assert began <= moments[0] <= moments[-1] <= time.time()
