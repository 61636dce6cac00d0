# SPDX-License-Identifier: Apache-2.0
"""The time from starting Python to the end of the first training step, in fresh processes: cold, then warm.

Cold is an empty compilation cache, warm the cache that the cold start filled.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from cnnjax.bench.fresh import run_fresh, told_to_child
from cnnjax.bench.measure import Spread, spread
from cnnjax.bench.report import format_seconds, spread_json
from cnnjax.report.table import format_table

PHASES = ("import", "data", "build", "initialise", "compile", "first_step")
LABELS = {
    "import": "Python and imports",
    "data": "data",
    "build": "building, tracing",
    "initialise": "initialisation, begun",
    "compile": "tracing, compilation",
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
    program = "from cnnjax.bench.startup import child; child()"
    began = time.time()
    cached = {"JAX_COMPILATION_CACHE_DIR": cache}
    moments = run_fresh(program, start._asdict(), environment=cached, what=f"the {kind} start")
    times = dict(zip(PHASES, (b - a for a, b in zip([began, *moments], moments, strict=False)), strict=True))
    return times | {"total": moments[-1] - began}


def child() -> None:
    """What a fresh process does: a training's first step. Prints the moments at which its phases ended."""
    start = Start(**told_to_child())

    import jax

    from cnnjax import devices, read_ahead
    from cnnjax.config import load_config

    config = load_config(start.config, start.overrides)
    devices.use_compilation_cache()
    devices.set_up(config.train)
    read_ahead.begin(config)  # as a run does

    from cnnjax.bench.subject import load_pictures
    from cnnjax.experiment import build_model, build_training
    from cnnjax.models.check import check_named
    from cnnjax.train import call_arguments, compile_dispatch

    moments = [time.time()]
    dataset, _ = load_pictures(config, start.synthetic, start.image, start.num_classes)
    moments.append(time.time())
    num_classes = len(dataset.label_names)
    model = build_model(config, num_classes)
    check_named(model, dataset.splits["train"].image.shape[1:], num_classes, name=config.model.name)  # as a run does
    training = build_training(config, model, dataset, devices.make_mesh())
    moments.append(time.time())
    state = training.init()  # as a run does: the numbers are drawn while the step is lowered
    moments.append(time.time())
    steps, stream = training.steps_per_dispatch, training.stream
    compile_dispatch(training.dispatch, state, stream, steps)
    moments.append(time.time())
    jax.block_until_ready(training.dispatch(state, stream.arrays, *call_arguments(state, stream, 0, 1, steps)))
    moments.append(time.time())
    print(json.dumps(moments))
