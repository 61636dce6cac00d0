# SPDX-License-Identifier: Apache-2.0
"""A sweep in its folder: a run for each point, several at once where one compiled step serves them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnjax import workdir as folder
from cnnjax.config import MEMBERS_FILE
from cnnjax.ensemble.configs import program
from cnnjax.ensemble.training import train_together
from cnnjax.errors import UsageError
from cnnjax.parts import build
from cnnjax.report.environment import write_atomic, write_json
from cnnjax.report.log import read_metrics
from cnnjax.sweep.grid import Point, make_points
from cnnjax.sweep.results import collect, format_csv

logger = logging.getLogger(__name__)

CSV_FILE, PICTURE, PAGE = "results.csv", "sweep.png", "report.html"


def train_sweep(
    spec: str | None,
    overrides: Sequence[str],
    workdir: str,
    *,
    at_once: int | None = None,
    accept_changes: bool = False,
) -> dict[str, Any]:
    """Trains every point of a grid, or goes on where a sweep was stopped; returns the results (`collect`).

    Points that differ in the seed and in numbers of the optimizer train in one compiled step, the others one after
    the other. One that diverges is noted as a result. The same command with more values adds to the sweep.

    Args:
      spec: the `--config` flag.
      overrides: "--config.key=a,b" strings.
      workdir: the folder of the sweep; each point is a run below it.
      at_once: most networks in one step; None: as many as the memory holds.
      accept_changes: go on although the config was another one.

    Raises:
      UsageError, RunError: as of a single run; what is saved stays.
      Stop: a signal ended the sweep early.
    """
    path = Path(workdir).expanduser()
    points = make_points(spec, overrides)
    folder.check_kind(path, "sweep")
    _check_contained(path, points)
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(program(point.config), []).append(point)
    logger.info("%d points, %d compiled programs", len(points), len(groups))
    for group in groups.values():
        build(group[0].config)  # what is wrong with one is told before the others have trained for hours
    names = [point.name for point in points]
    with folder.hold(path):
        write_json(path / MEMBERS_FILE, {"kind": "sweep", "members": names, "keys": list(points[0].values)})
        results = collect(points, path)
        for group in groups.values():
            configs, paths = [point.config for point in group], [path / point.name for point in group]
            parts = build(configs[0])
            train_together(parts, configs, paths, at_once=at_once, accept_changes=accept_changes, draws=False)
            results = collect(points, path)
            write_json(path / folder.RESULTS_FILE, results)
            write_atomic(path / CSV_FILE, format_csv(results).encode())
        draw(path, points, results)
    return results


def draw(path: Path, points: Sequence[Point], results: dict[str, Any]) -> None:
    """The picture of the results, and the page that compares the runs."""
    # Matplotlib is slow to load, and training need not wait for it.
    from cnnjax.page.comparison import write_comparison
    from cnnjax.sweep.picture import plot_sweep

    finished = [path / row["name"] for row in results["points"] if row["status"] == "finished"]
    if not finished:
        return
    plot_sweep(results, {run.name: read_metrics(run) for run in finished}, path / PICTURE, title=path.name)
    write_comparison(finished, path / PAGE)


def written(path: Path) -> str:
    """Where to find what."""
    files = (
        (PICTURE, "results by value, and how training went"),
        (PAGE, "the runs compared on one page; of one: run.py report --workdir=..."),
        (folder.RESULTS_FILE, "all numbers; as a table in results.csv"),
    )
    return "\n".join(f"{path / name}  {what}" for name, what in files if (path / name).exists())


def _check_contained(path: Path, points: Sequence[Point]) -> None:
    if not (path / MEMBERS_FILE).exists():
        return
    lost = set(folder.read_members(path)["members"]) - {point.name for point in points}
    if lost:
        raise UsageError(
            f"{path} holds another sweep: {len(lost)} of its points, as {min(lost)}, are not among these; take another "
            "--workdir, or give all values of before and more"
        )
