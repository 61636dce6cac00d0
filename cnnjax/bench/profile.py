# SPDX-License-Identifier: Apache-2.0
"""Where the time of a step goes: a trace of a few steps, and its operations by layer and pass, costliest first."""

import logging
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import jax

from cnnjax import devices
from cnnjax.architectures.timing import machine
from cnnjax.bench.hlo import parse
from cnnjax.bench.operations import FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT, OTHER, Label, label_instructions
from cnnjax.bench.report import format_seconds
from cnnjax.bench.subject import Subject
from cnnjax.bench.trace_file import Operation, find_trace, read_operations
from cnnjax.errors import RunError
from cnnjax.experiment import build_training
from cnnjax.inspect.summary import summarize
from cnnjax.report.environment import write_json
from cnnjax.report.table import format_table

logger = logging.getLogger(__name__)
TABLE_FILE = "operations.json"


class Profile(NamedTuple):
    """The JSON document and the same as text."""

    document: dict[str, Any]
    text: str


def profile(subject: Subject, name: str, folder: Path, *, steps: int = 5, warmup: int = 3, rows: int = 30) -> Profile:
    """Traces `steps` steps of training into `folder` and sums its operations up.

    Args:
      subject: the network and its data; `config.train.steps_per_dispatch` must be 1, so that a step is a program.
      name: what to call the config.
      folder: of the trace; `operations.json` is written beside.
      steps: traced.
      warmup: steps before.
      rows: of the table; the document has all.

    Raises:
      RunError: the folder cannot be written, or the profiler wrote nothing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror}; give another --out") from error
    training = build_training(subject.config, subject.model, subject.dataset, devices.make_mesh())
    stream, state = training.stream, training.init()
    lowered = training.dispatch.lower(training.abstract_state, stream.arrays, stream.blank(1), 1)
    compiled = lowered.compile()
    seconds = 0.0
    for step in range(warmup):
        state, measured = training.dispatch(state, stream.arrays, stream.items(step, 1), 1)
        jax.block_until_ready(measured)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Python's calls would outnumber the operations
    with jax.profiler.trace(str(folder), profiler_options=options):
        start = time.perf_counter()
        for step in range(warmup, warmup + steps):
            state, measured = training.dispatch(state, stream.arrays, stream.items(step, 1), 1)
            jax.block_until_ready(measured)
        seconds = (time.perf_counter() - start) / steps
    text = compiled.as_text() or ""
    module = text.partition("HloModule ")[2].partition(",")[0].split()[0]
    operations = read_operations(find_trace(folder), module)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(training.abstract_state)]
    labels = label_instructions(parse(text), training.abstract_state.params, paths)
    document = {
        "config": name,
        "network": subject.config.model.name,
        "device": machine(),
        "batch_size": stream.batch_size,
        "steps": steps,
        "seconds_per_step": seconds,
        "trace": str(find_trace(folder)),
        "operations": summed_up(operations, labels, _layer_macs(subject), stream.batch_size, steps),
    }
    write_json(folder / TABLE_FILE, document)
    return Profile(document, _format(document, rows))


def _layer_macs(subject: Subject) -> dict[str, int]:
    """Multiply-adds of one image by layer, as the summary names it: a layer's own name or one below it."""
    summary = summarize(subject.model, subject.image_shape, subject.config.model.name)
    return {layer.name: layer.macs for layer in summary.layers}


def summed_up(
    operations: dict[str, Operation], labels: dict[str, Label], macs: dict[str, int], batch_size: int, steps: int
) -> list[dict[str, Any]]:
    """A row for each label, costliest first; `gflops` where the label is one pass of a layer with multiply-adds."""
    total = sum(operation.seconds for operation in operations.values())
    members: dict[Label, list[tuple[str, Operation]]] = defaultdict(list)
    for name, operation in operations.items():
        # A custom call's name in a trace is followed by its target: "ffi_call.3__onednn$convolution".
        label = labels.get(name) or labels.get(name.rpartition("__")[0], OTHER)
        members[label].append((name, operation))
    rows = []
    for label, ops in members.items():
        seconds = sum(operation.seconds for _, operation in ops)
        costliest = sorted(ops, key=lambda op: -op[1].seconds)
        flops = 0
        if label.part in (FORWARD, KERNEL_GRADIENT, INPUT_GRADIENT):
            inside = f"{label.layer}/"
            flops = 2 * batch_size * sum(macs[name] for name in macs if f"{name}/".startswith(inside))
        rows.append(
            {
                "name": str(label),
                "share": seconds / total if total else 0.0,
                "seconds_per_step": seconds / steps,
                "calls_per_step": sum(operation.calls for _, operation in ops) / steps,
                "gflops": flops / (seconds / steps) / 1e9 if flops and seconds else None,
                "instructions": [name for name, _ in costliest],
            }
        )
    return sorted(rows, key=lambda row: -row["seconds_per_step"])


def _format(document: dict[str, Any], rows: int) -> str:
    shown, hidden = document["operations"][:rows], document["operations"][rows:]
    lines = [
        (
            row["name"],
            f"{100 * row['share']:.1f}%",
            format_seconds(row["seconds_per_step"]),
            f"{row['calls_per_step']:.3g}",
            "-" if row["gflops"] is None else f"{row['gflops']:.3g}",
            ", ".join(row["instructions"][:2]),
        )
        for row in shown
    ]
    if hidden:
        rest = sum(row["seconds_per_step"] for row in hidden)
        share = sum(row["share"] for row in hidden)
        lines.append((f"{len(hidden)} more", f"{100 * share:.1f}%", format_seconds(rest), "", "", ""))
    header = ("operation", "share", "a step", "calls", "GFLOP/s", "of the compiler's, costliest first")
    head = (
        f"{document['network']} ({document['config']}), training, batch {document['batch_size']}, on "
        f"{document['device']}: {format_seconds(document['seconds_per_step'])} a step, {document['steps']} steps traced"
    )
    note = "Operations that run at the same time share it equally."
    return f"{head}\n\n{format_table(header, lines, 'lrrrrl')}\n\n{note}\ntrace: {document['trace']}"
