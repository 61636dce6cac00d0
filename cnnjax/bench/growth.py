# SPDX-License-Identifier: Apache-2.0
"""How time and memory of a training step grow with batch size, image size, depth and data set size.

Every point is `run.py bench --json` in a process of its own, so that its memory is its own too.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnjax.bench.growth_axes import Axis, Point, axes, base_point, per_unit, series
from cnnjax.bench.report import format_seconds
from cnnjax.config import load_config
from cnnjax.errors import RunError
from cnnjax.report.environment import write_atomic, write_json
from cnnjax.report.table import format_bytes, format_count, format_duration

logger = logging.getLogger(__name__)
ROOT = Path(__file__).parents[2]
NAME = "growth"  # of the files
FLAT = 1.15  # least and most of what should not depend on the axis may differ by this factor


def measure_growth(spec: str, overrides: Sequence[str], folder: Path, *, rounds: int, limit: int | None) -> str:
    """Measures what `folder`/growth.json does not hold yet and writes growth.json, growth.png and growth.md.

    Args:
      spec: `--config`.
      overrides: of it.
      folder: of the files.
      rounds: of each point.
      limit: points to measure now; None: all. The rest is measured by the same command later.

    Returns:
      What was done, in words.

    Raises:
      RunError: a point failed; those before it are kept.
    """
    config = load_config(spec, overrides)
    base, path = base_point(config), folder / f"{NAME}.json"
    document = json.loads(path.read_text()) if path.is_file() else {}
    key = {"config": spec, "overrides": list(overrides), "base": list(base)}
    if {name: document.get(name) for name in key} != key:
        document = {**key, "points": []}
    measured = {tuple(point["point"]): point for point in document["points"]}
    wanted = [
        point
        for axis in axes(base)
        for point in (base._replace(**{axis.field: value}) for value in axis.values)
        if tuple(point) not in measured
    ]
    missing = list(dict.fromkeys(wanted))
    for point in missing[:limit]:
        logger.info("measuring %s", point)
        result = _measure(spec, overrides, point, rounds)
        measured[tuple(point)] = {"point": list(point), **result}
        document["points"] = list(measured.values())
        write_json(path, document)
    left = len(missing) - len(missing[:limit])
    if left:
        return f"{path}: {len(measured)} points; {left} are left, which the same command measures"
    # Matplotlib is slow to load.
    from cnnjax.bench.growth_figure import plot_growth

    plot_growth(document, axes(base), folder / f"{NAME}.png")
    write_atomic(folder / f"{NAME}.md", page(document, axes(base)).encode())
    return "\n".join(f"{folder / NAME}.{suffix}" for suffix in ("md", "png", "json"))


def page(document: dict[str, Any], along: Sequence[Axis]) -> str:
    """The page in Markdown: a table, the picture, and where it is flat."""
    command = " ".join(["run.py bench --mode=growth", f"--config={document['config']}", *document["overrides"]])
    first = document["points"][0]
    base = Point(*document["base"])
    depth = f"depth {base.depth}, " if base.depth else ""
    lines = [
        "# How cost grows",
        "",
        f"`{command} --out=docs` on {first['device']}: whole training steps, median of {first['rounds']} rounds, every "
        "point in a process of its own.",
        f"While one thing grows the others stay: {depth}batch {base.batch_size}, {base.side}x{base.side} pixels, "
        f"{format_count(base.examples)} pictures. Compilation without a cache.",
        "",
        f"![Time and memory against batch size, image size, depth and data set size]({NAME}.png)",
        "",
        "| grows | to | a step | by unit | compilation | a step's own memory | arguments | process |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for axis in along:
        for value, one in series(document, axis):
            point, memory = Point(*one["point"]), one["memory"]
            unit = f"{'an' if axis.unit == 'image' else 'a'} {axis.unit}"
            lines.append(
                f"| {axis.name} | {format_count(value)} | {format_seconds(one['seconds'])} "
                f"| {format_seconds(per_unit(axis, point, one['seconds']))} {unit} "
                f"| {format_duration(one['compile_seconds'])} | {format_bytes(memory['temp_bytes'] or 0)} "
                f"| {format_bytes(memory['argument_bytes'] or 0)} | {format_bytes(memory['process_peak_bytes'])} |"
            )
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in verdicts(document, along)), ""])


def verdicts(document: dict[str, Any], along: Sequence[Axis]) -> list[str]:
    """For every axis what should be flat and how far it is."""
    sentences = []
    for axis in along:
        points = series(document, axis)
        times = [per_unit(axis, Point(*one["point"]), one["seconds"]) for _, one in points]
        sentence = f"**{axis.name}** ({axis.expected}): {_flatness(f'time by {axis.unit}', times)}"
        if axis.field == "examples":
            own = [float(one["memory"]["temp_bytes"] or 1) for _, one in points]
            sentence += f"; {_flatness('own memory', own)}"
        if axis.field == "batch_size":
            sentence += f"; {_flatness('from the base on', times[2:])}"
        sentences.append(f"{sentence}.")
    return sentences


def _flatness(what: str, values: Sequence[float]) -> str:
    factor = max(values) / min(values)
    return f"{what} differs by a factor of {factor:.2f}, {'flat' if factor <= FLAT else 'not flat'}"


def _measure(spec: str, overrides: Sequence[str], point: Point, rounds: int) -> dict[str, Any]:
    depth = [f"--config.model.depth={point.depth}"] if point.depth else []
    argv = ["bench", f"--config={spec}", *overrides, *depth, "--synthetic", f"--rounds={rounds}", "--json"]
    channels = 3
    argv += [f"--batch_size={point.batch_size}", f"--input={point.side}x{point.side}x{channels}", "--cold"]
    argv += [f"--examples={max(point.examples, point.batch_size)}"]
    done = subprocess.run([sys.executable, str(ROOT / "run.py"), *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"{point} failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    result = json.loads(done.stdout)
    kept = ("device", "rounds", "images_per_second", "compile_seconds", "memory", "params", "multiply_adds")
    seconds = point.batch_size / result["images_per_second"]["median"]
    return {"seconds": seconds, **{name: result[name] for name in kept}}
