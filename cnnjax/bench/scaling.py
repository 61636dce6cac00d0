# SPDX-License-Identifier: Apache-2.0
"""A training step on 1, 2, 4 and 8 devices: its time, and what the devices send to each other.

Every number of devices is a process of its own. On a CPU they are made-up devices that share its cores: the time
then tells what dividing the work costs, and not what more devices would bring; the bytes are those of real ones.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from cnnjax.bench.collectives import list_collectives, sum_up
from cnnjax.bench.fresh import run_fresh, told_to_child
from cnnjax.bench.measure import spread
from cnnjax.bench.report import format_seconds
from cnnjax.errors import RunError
from cnnjax.report.table import format_bytes, format_count, format_table

COUNTS = (1, 2, 4, 8)
DIVIDED = "--config.train.shard_params=1024"
WAYS = {"whole": (), "divided": (DIVIDED,)}


class Setup(NamedTuple):
    """What a child measures: `--config`, its overrides, rounds, and how pictures are made up."""

    config: str
    overrides: Sequence[str]
    rounds: int
    image: str | None = None
    num_classes: int | None = None


def measure_scaling(setup: Setup, counts: Sequence[int] = COUNTS) -> list[dict[str, Any]]:
    """Rows of `devices`, `parameters` ("whole" or "divided"), seconds a step, and the collectives of a step.

    Raises:
      RunError: a process failed; its last line is told.
    """
    rows = []
    for count in counts:
        for way, overrides in WAYS.items():
            if count > 1 or way == "whole":
                one = setup._replace(overrides=[*setup.overrides, *overrides])
                rows.append({"devices": count, "parameters": way, **_run(one, count)})
    return rows


def format_scaling(document: dict[str, Any]) -> str:
    """A row for each number of devices and way to keep the parameters."""
    rows = []
    first = document["scaling"][0]["seconds"]["median"]
    for row in document["scaling"]:
        seconds, moved = row["seconds"], row["collectives"]
        extremes = f"({format_seconds(seconds['min'])} to {format_seconds(seconds['max'])})"
        rows.append(
            (
                format_count(row["devices"]),
                row["parameters"],
                f"{format_seconds(seconds['median'])} {extremes}",
                f"{seconds['median'] / first:.2f}",
                format_count(sum(moved["count"].values())),
                format_bytes(moved["sent_bytes"]),
                "?" if row["argument_bytes"] is None else format_bytes(row["argument_bytes"]),
            )
        )
    header = ("devices", "parameters", "a step", "by 1 device", "collectives", "each sends", "each keeps")
    head = (
        f"{document['network']} ({document['config']}), training, batch {document['batch_size']} in all, "
        f"on {document['device']}"
    )
    note = (
        "each sends: bytes a step, parts passed round a ring. each keeps: state and data between steps. On a CPU all "
        "devices share the same cores."
    )
    return f"{head}\n\n{format_table(header, rows, 'rlrrrrr')}\n\n{note}"


def _run(setup: Setup, count: int) -> dict[str, Any]:
    program = "from cnnjax.bench.scaling import child; child()"
    # Whichever of them the backend reads; a GPU host shows its first devices, a CPU makes as many up.
    shown = {"JAX_NUM_CPU_DEVICES": str(count), "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(count)))}
    measured = run_fresh(program, setup._asdict(), environment=shown, what=f"measuring {count} devices")
    if measured.pop("devices") != count:
        raise RunError(f"this machine does not show {count} devices to a process; they cannot be measured here")
    return measured


def child() -> None:
    """What a process of `measure_scaling` does; prints a line of JSON."""
    import time

    import jax

    from cnnjax import devices
    from cnnjax.bench.subject import load_pictures
    from cnnjax.config import load_config
    from cnnjax.experiment import build_model, build_training

    setup = Setup(**told_to_child())
    config = load_config(setup.config, [*setup.overrides, "--config.train.steps_per_dispatch=1"])
    devices.set_up(config.train)
    dataset, _ = load_pictures(config, True, setup.image, setup.num_classes)
    mesh = devices.make_mesh()
    training = build_training(config, build_model(config, len(dataset.label_names)), dataset, mesh)
    arguments = (training.stream.arrays, training.stream.items(0, 1), 1)
    compiled = training.dispatch.lower(training.abstract_state, *arguments).compile()
    state, seconds = training.init(), []
    for _ in range(setup.rounds + 2):
        start = time.perf_counter()
        state, rows = training.dispatch(state, *arguments)
        jax.block_until_ready(rows)
        seconds.append(time.perf_counter() - start)
    memory = compiled.memory_analysis()
    measured = {
        "devices": mesh.size,
        "seconds": spread(seconds[2:])._asdict(),
        "collectives": sum_up(list_collectives(compiled.as_text() or "", mesh.size))._asdict(),
        "argument_bytes": memory.argument_size_in_bytes if memory else None,
    }
    print(json.dumps(measured))
