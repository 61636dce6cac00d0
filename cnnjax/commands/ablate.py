# SPDX-License-Identifier: Apache-2.0
"""Train with none of a recipe's parts, each alone, all but each, and all: what each of them gains.

  run.py ablate --config=experiments/simple_cnn_cifar10.py --workdir=runs/parts --over=augment --seeds=0,1,2

The parts are the keys of a section that the config switches on; or name them, --over=augment.mirror,train.ema_decay,
with + between keys that go together. Off is the default of experiments/default.py. An ablation that was stopped goes
on by the same command, and the same command with more seeds adds to it.
"""

import argparse
import json
import sys
from pathlib import Path

from cnnjax.errors import UsageError

PICTURE = "ablation.png"

TRAINS = True  # in its workdir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--over", default="augment", metavar="KEYS", help="a section, or keys; default: augment")
    parser.add_argument("--seeds", default="0,1,2", metavar="N,...", help="of the runs of each setting; default: 0,1,2")
    parser.add_argument("--at_once", type=int, metavar="N", help="most networks in one step; default: what fits")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Trains and prints the table; 128 + the signal's number when a signal stopped it."""
    if not args.workdir:
        raise UsageError("no workdir given; add --workdir=runs/NAME, the folder that the ablation writes to")
    seeds = args.seeds.split(",")
    if not all(seed.isdecimal() for seed in seeds) or len(set(map(int, seeds))) < len(seeds):
        raise UsageError(f"--seeds={args.seeds}: give different whole numbers with commas between them, as 0,1,2")

    from cnnjax.assess.ablation import ablate, format_ablation
    from cnnjax.assess.pictures import plot_ablation
    from cnnjax.stopping import Stop, stopping_at_once

    numbers = [int(seed) for seed in seeds]
    try:
        with stopping_at_once():
            options = {"over": args.over, "seeds": numbers, "at_once": args.at_once}
            found = ablate(args.config, args.overrides, args.workdir, **options)
    except Stop as stop:
        print(stop.told(), file=sys.stderr)
        return stop.exit_code
    path = Path(args.workdir).expanduser() / PICTURE
    plot_ablation(found, path, title=path.parent.name)
    text = f"{format_ablation(found)}\n\n{path}  the same, drawn"
    print(json.dumps(found, ensure_ascii=False) if args.json else text)
    return 0
