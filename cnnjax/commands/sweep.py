# SPDX-License-Identifier: Apache-2.0
r"""Train a grid of configs: a key with several values, and the table and picture of what came of it.

  run.py sweep --config=experiments/lenet5_digits.py --workdir=runs/rates \
      --config.optimizer.learning_rate=0.001,0.01 --config.seed=0,1,2

Every combination is a run of its own, in a folder below. Runs that differ in the seed and in numbers of the optimizer
only are trained in one compiled step, the others one after the other. A comma outside brackets separates values: give
tuples in brackets, --config.model.hidden="(8,),(16,)". A sweep that was stopped goes on by the same command, and the
same command with more values adds to it. A run that diverges is a result, not an end.
"""

import argparse
import json
import sys
from pathlib import Path

from cnnjax.errors import UsageError

TRAINS = True  # in its workdir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--at_once", type=int, metavar="N", help="most networks in one step; default: what fits")
    parser.add_argument("--accept_changes", action="store_true", help="go on although the config was another one")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Trains and prints the tables; 128 + the signal's number when a signal stopped it."""
    if args.at_once is not None and args.at_once < 1:
        raise UsageError(f"--at_once is {args.at_once}; it must be 1 or more")
    if not args.workdir:
        raise UsageError("no workdir given; add --workdir=runs/NAME, the folder that the sweep writes to")

    from cnnjax.stopping import Stop, stopping_at_once
    from cnnjax.sweep.results import format_results
    from cnnjax.sweep.sweep_run import train_sweep, written

    changes = args.accept_changes
    try:
        with stopping_at_once():
            options = {"at_once": args.at_once, "accept_changes": changes}
            results = train_sweep(args.config, args.overrides, args.workdir, **options)
    except Stop as stop:
        print(stop.told(), file=sys.stderr)
        return stop.exit_code
    if args.json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        print(f"{format_results(results)}\n\n{written(Path(args.workdir).expanduser())}")
    return 0
