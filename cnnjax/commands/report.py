# SPDX-License-Identifier: Apache-2.0
"""Write the page of a run, report.html, or one page that compares several runs.

  run.py report --workdir=runs/digits             WORKDIR/report.html, as at the end of training
  run.py report --workdir=runs/digits --full      with the views of 'run.py see' drawn first: takes minutes
  run.py report runs/a runs/b                     both on one page; runs that differ in config.seed alone are a group
  run.py report runs                              all runs below the folder

A page is one file that needs no network and no server. It shows what can be had: without the data, or before the
first checkpoint, the rest of it. --config.KEY=VALUE changes a key, as --config.data.dir does when the data lie
elsewhere.
"""

import argparse
import contextlib
import logging
import sys
import textwrap
from pathlib import Path

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("runs", nargs="*", metavar="DIR", help="runs, or folders of runs")
    parser.add_argument("--full", action="store_true", help="one run: draw the views of 'run.py see' first")
    parser.add_argument("--checkpoint", default="latest", metavar="STEP", help="latest (default), best or a step")
    parser.add_argument("--out", metavar="FILE", help="several runs: where the page goes; default: comparison.html")


def run(args: argparse.Namespace) -> int:
    """Writes the page and prints its path."""
    from cnnjax.errors import RunError, UsageError
    from cnnjax.page.record import find_runs
    from cnnjax.workdir import is_run

    places = [Path(place).expanduser() for place in (*([args.workdir] if args.workdir else ()), *args.runs)]
    if not places:
        raise UsageError("no run given; add --workdir=DIR, the folder of a training run, or several folders")
    if len(places) == 1 and (is_run(places[0]) or args.workdir):
        if args.out:
            raise UsageError("--out is for the page of several runs; that of one goes into its folder")
        print(_one(places[0], args))
        return 0
    if args.full or args.overrides or args.checkpoint != "latest":
        raise UsageError("--full, --checkpoint and --config.KEY=VALUE are for one run; give its --workdir alone")
    places = [place for place in places if not place.is_file()] or places  # runs/* may name a file among its folders
    found = [path for place in places for path in ([place] if is_run(place) else find_runs(place))]
    if not found:
        raise RunError(f"there is no run in {', '.join(map(str, places))}; train one first")

    from cnnjax.page.comparison import common_folder, write_comparison

    target = Path(args.out).expanduser() if args.out else common_folder(places) / "comparison.html"
    print(write_comparison(list(dict.fromkeys(found)), target))
    return 0


def _one(workdir: Path, args: argparse.Namespace) -> Path:
    from cnnjax import devices
    from cnnjax.checkpoint import FOLDER
    from cnnjax.config import load_run_config
    from cnnjax.data import load_dataset
    from cnnjax.errors import CnnjaxError
    from cnnjax.experiment import build_evaluate, build_model, load_network
    from cnnjax.page.one_run import check_same_data, write_report
    from cnnjax.page.record import read_run

    devices.use_compilation_cache()
    record = read_run(workdir)
    config = load_run_config(workdir, args.overrides)
    if args.full:
        _draw_views(workdir, args)
    num_classes = len(record.info.label_names)
    network = None
    # A folder without checkpoints yet has its page all the same; a checkpoint asked for by name must be there.
    if any((workdir / FOLDER).glob("[0-9]*")) or args.checkpoint != "latest":
        network = load_network(str(workdir), args.checkpoint, args.overrides)
    model = network.model if network else build_model(config, num_classes)
    dataset = evaluation = None
    remarks = []
    split = "test"
    try:
        dataset = load_dataset(config.data)
        check_same_data(record, dataset)
    except (CnnjaxError, OSError) as error:
        dataset = None
        remarks.append(f"The data are not at hand, so their part is left out: {textwrap.shorten(str(error), 160)}")
        logger.warning("the data are not at hand, so their part is left out: %s", error)
    if dataset and network:
        split = next((name for name in ("test", "validation") if name in dataset.splits), "train")
        evaluate = build_evaluate(config, model, dataset.splits[split], num_classes, devices.make_mesh())
        evaluation = evaluate(network.params, network.model_state)
        if record.result is None or network.step != record.result.step:
            remarks.append(f"Mistakes, calibration and filters are those of step {network.step:,}.")
    return write_report(
        workdir,
        dataset=dataset,
        evaluation=evaluation,
        split=split,
        model=model,
        params=network.params if network else None,
        remark=" ".join(remarks) or None,
    )


def _draw_views(workdir: Path, args: argparse.Namespace) -> None:
    """Draws what `run.py see` draws when no view is named, and the top activations."""
    from cnnjax.commands import see
    from cnnjax.errors import CnnjaxError
    from cnnjax.views import get_view, names

    chosen = [name for name in names() if getattr(get_view(name), "DEFAULT", False) or name == "top"]
    for name in chosen:
        parser = argparse.ArgumentParser()
        see.add_arguments(parser)
        given = parser.parse_args([name, f"--checkpoint={args.checkpoint}"])
        given.workdir, given.config, given.overrides = str(workdir), None, args.overrides
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for the page's path
                see.run(given)
        except CnnjaxError as error:  # a view that does not suit this network
            logger.warning("no %s: %s", name, error)
