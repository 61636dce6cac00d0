# SPDX-License-Identifier: Apache-2.0
"""The time from starting Python to the end of the first training step, in fresh processes: cold, then warm.

Cold is an empty compilation cache, warm the cache that the cold start filled.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from cnnjax.bench.measure import Spread, spread
from cnnjax.bench.report import format_seconds, spread_json
from cnnjax.errors import RunError
from cnnjax.report.table import format_table

PHASES = ("import", "data", "build", "initialise", "first_step")
LABELS = {
    "import": "Python and imports",
    "data": "data",
    "build": "building, tracing",
    "initialise": "initialisation",
    "first_step": "first step",
    "total": "to the end of the first step",
}


class Start(NamedTuple):
    """What to start: `--config`, its overrides, and how pictures are made up."""

    config: str
    overrides: Sequence[str]
    synthetic: bool = False
    image: str | None = None
    num_classes: int | None = None


def measure_startup(start: Start, rounds: int) -> dict[str, dict[str, Spread]]:
    """Seconds by phase and in `total`, for "cold" and "warm": `rounds` pairs of fresh processes.

    Raises:
      RunError: a process failed; its last line is told.
    """
    runs: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="cnnjax-startup-") as cache:
            for kind, results in runs.items():
                results.append(_run(start, cache, kind))
    return {
        kind: {phase: spread([result[phase] for result in results]) for phase in (*PHASES, "total")}
        for kind, results in runs.items()
    }


def startup_json(measured: dict[str, dict[str, Spread]]) -> dict[str, Any]:
    """As {"cold": {"total": {"median", "min", "max"}, "import": ...}, "warm": ...}, seconds."""
    return {kind: {phase: spread_json(s) for phase, s in phases.items()} for kind, phases in measured.items()}


def format_startup(document: dict[str, Any]) -> str:
    """A row a phase."""
    startup = document["startup"]
    rows = [
        (LABELS[phase], *(format_seconds(startup[kind][phase]["median"]) for kind in ("cold", "warm")))
        for phase in PHASES
    ]
    total = ["total"]
    for kind in ("cold", "warm"):
        s = startup[kind]["total"]
        total.append(f"{format_seconds(s['median'])} ({format_seconds(s['min'])} to {format_seconds(s['max'])})")
    head = (
        f"{document['network']} ({document['config']}), start to the end of the first step, batch "
        f"{document['batch_size']}, on {document['device']}, {document['rounds']} fresh processes each"
    )
    note = "cold: an empty compilation cache; warm: the cache that the cold start filled"
    return f"{head}\n\n{format_table(('', 'cold', 'warm'), [*rows, None, tuple(total)], 'lrr')}\n\n{note}"


def _run(start: Start, cache: str, kind: str) -> dict[str, float]:
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
    program = "import time; began = time.time(); from cnnjax.bench.startup import child; child(began)"
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(start._asdict()),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RunError(f"the {kind} start failed: {last}")
    moments = json.loads(lines[-1])
    times = dict(zip(PHASES, (b - a for a, b in zip([began, *moments], moments, strict=False)), strict=True))
    return times | {"total": moments[-1] - began}


def child(began: float) -> None:
    """What a fresh process does: a training's first step. Prints the moments at which its phases ended."""
    del began  # the parent's clock starts earlier, with the interpreter
    start = Start(**json.loads(sys.stdin.read()))

    import jax

    from cnnjax import devices
    from cnnjax.bench.subject import load_subject
    from cnnjax.config import load_config
    from cnnjax.experiment import build_training

    moments = [time.time()]
    devices.use_compilation_cache()
    config = load_config(start.config, start.overrides)
    devices.set_up(config.train)
    subject = load_subject(config, synthetic=start.synthetic, image=start.image, num_classes=start.num_classes)
    moments.append(time.time())
    training = build_training(config, subject.model, subject.dataset, devices.make_mesh())
    moments.append(time.time())
    state = jax.block_until_ready(training.init())
    moments.append(time.time())
    steps = training.steps_per_dispatch
    jax.block_until_ready(training.dispatch(state, training.stream.arrays, training.stream.items(0, steps), 1))
    moments.append(time.time())
    print(json.dumps(moments))
