# SPDX-License-Identifier: Apache-2.0
"""Time many networks in one compiled step against the same ones one after the other.

  run.py ensemble --config=experiments/lenet5_digits.py --config.ensemble_size=8

All ways are timed by turns, in whole training steps; images a second are those of all networks together. To train an
ensemble give config.ensemble_size to the command train.
"""

import argparse
import json

from cnnjax.errors import UsageError, unknown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--ways", metavar="WAY,...", help="vmap, turns, unrolled, map; default: all")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="timings of each way; default: 5")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of one timing, at least; default: 1")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints a table, a way a line."""
    from cnnjax.config import load_config
    from cnnjax.ensemble.configs import is_ensemble
    from cnnjax.ensemble.throughput import measure
    from cnnjax.ensemble.together import WAYS
    from cnnjax.report.table import format_duration, format_table

    config = load_config(args.config, args.overrides)
    ways = args.ways.split(",") if args.ways else WAYS
    for way in ways:
        if way not in WAYS:
            raise UsageError(unknown("way (--ways)", way, WAYS))
    if args.rounds < 1 or not args.seconds > 0:
        raise UsageError("--rounds must be 1 or more, and --seconds above 0")
    if not is_ensemble(config):
        raise UsageError("one network is no ensemble: give --config.ensemble_size=8, or another size")
    measured = measure(config, ways, rounds=args.rounds, seconds=args.seconds)
    if args.json:
        print(json.dumps(measured, ensure_ascii=False))
        return 0
    rows = [
        (
            way,
            *(f"{each['images_per_second'][name]:,.0f}" for name in ("median", "min", "max")),
            f"{each['ratio']:.2f}",
            format_duration(each["compile_seconds"]),
        )
        for way, each in measured["ways"].items()
    ]
    head = f"{measured['members']} x {measured['model']}, batch {measured['batch_size']}, {measured['device']}"
    table = format_table(("way", "images/s", "least", "most", "ratio", "compilation"), rows, "lrrrrr")
    print(f"{head}; a run takes: {measured['chosen']}\n\n{table}")
    return 0
