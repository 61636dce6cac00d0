# SPDX-License-Identifier: Apache-2.0
"""Compare architectures on one picture: accuracy against multiply-adds, published ones and your own.

  run.py compare --workdir=OUT runs/lenet5 runs/resnet20

The area of a bubble is the number of parameters. Each data set has a panel of its own. Parameters and multiply-adds
are counted on our networks; each accuracy has its source, in OUT/compare.json and on the page. Runs that differ in
the seed only become one bubble. With --time the networks are also timed on this machine, which takes minutes.
"""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnjax.architectures.points import Panel

logger = logging.getLogger(__name__)
NAME = "compare"  # of the files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders of training runs")
    parser.add_argument("--only", metavar="SET,...", help="panels to draw: imagenet, cifar10, mnist, usps, or runs")
    parser.add_argument("--time", action="store_true", help="also against the time of an image on this machine")
    parser.add_argument("--batch_size", type=int, default=1, metavar="B", help="images at once for --time (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Writes PNG, SVG, page and numbers, and prints their paths."""
    from cnnjax.architectures.page import Timing, make_document, write_page
    from cnnjax.architectures.picture import plot_architectures
    from cnnjax.architectures.points import make_panels
    from cnnjax.architectures.runs import read_runs
    from cnnjax.architectures.timing import machine
    from cnnjax.errors import RunError, UsageError
    from cnnjax.report.environment import write_json

    if not args.workdir:
        raise UsageError("no workdir given; add --workdir=DIR, the folder that the picture is written to")
    if args.batch_size < 1:
        raise UsageError(f"--batch_size is {args.batch_size}; it must be 1 or more")
    points, left_out = read_runs([Path(path).expanduser() for path in args.runs])
    if args.runs and not points:
        raise RunError(left_out[0] if len(left_out) == 1 else f"none of the {len(left_out)} runs: {left_out[0]}")
    for reason in left_out:
        logger.warning("left out: %s", reason)
    panels = _chosen(make_panels(points), args.only)
    folder, timing = Path(args.workdir).expanduser(), None
    written = [(f"{NAME}.png", "the picture"), (f"{NAME}.svg", "the same, to be scaled")]
    if args.time:
        panels, timing = _timed(panels, args.batch_size), Timing(args.batch_size, machine())
        written += [(f"{NAME}_time.png", "against time"), (f"{NAME}_time.svg", "the same, to be scaled")]
    for suffix in ("png", "svg"):
        plot_architectures(panels, folder / f"{NAME}.{suffix}")
        if timing:
            path = folder / f"{NAME}_time.{suffix}"
            plot_architectures(panels, path, batch_size=timing.batch_size, machine=timing.machine)
    document = make_document(panels, timing, left_out)
    write_json(folder / f"{NAME}.json", document)
    write_page(document, folder / f"{NAME}.html")
    for name, what in [
        *written,
        (f"{NAME}.html", "to point at and sort"),
        (f"{NAME}.json", "all numbers, with sources"),
    ]:
        print(f"{folder / name}  {what}")
    return 0


def _chosen(panels: "list[Panel]", only: str | None) -> "list[Panel]":
    """The panels named in `--only`; "runs" are all that hold a run."""
    from cnnjax.architectures.points import RUN
    from cnnjax.errors import UsageError, unknown

    if not only:
        return panels
    names, known = only.split(","), [*(panel.key for panel in panels), "runs"]
    for name in names:
        if name not in known:
            raise UsageError(unknown("panel (--only)", name, known))
    with_runs = {panel.key for panel in panels if any(point.kind == RUN for point in panel.points)}
    chosen = [panel for panel in panels if panel.key in names or ("runs" in names and panel.key in with_runs)]
    if not chosen:
        raise UsageError("--only=runs, but no RUN is given")
    return chosen


def _timed(panels: "list[Panel]", batch_size: int) -> "list[Panel]":
    """The panels with the measured time of each point; a network that stands there twice is measured once."""
    from cnnjax import devices
    from cnnjax.architectures.picture import format_seconds
    from cnnjax.architectures.timing import seconds_per_image

    devices.use_compilation_cache()
    times: dict[tuple[str, tuple[int, int, int], str], float] = {}
    for panel in panels:
        for point in panel.points:
            key = (point.network, point.image_shape, panel.key)
            if key not in times:
                times[key] = seconds_per_image(point.model, point.image_shape, batch_size)
                logger.info("%s: %s an image", point.network, format_seconds(times[key]))
    return [
        panel._replace(
            points=tuple(
                point._replace(seconds=times[point.network, point.image_shape, panel.key]) for point in panel.points
            )
        )
        for panel in panels
    ]
