# SPDX-License-Identifier: Apache-2.0
r"""Compare scratch, fixed features and fine-tuning, by the number of training pictures.

Each way is trained on the same stratified draws of N pictures, several seeds each, and measured on the test split at
the last step: nothing is chosen on any held-out picture. What is done stays in the workdir; the same command goes on.

  scratch   all layers from random ones, at the config's rate
  features  the network fixed, logistic regression on its layer `features`
  part      the last stage and the dense layers trained, the others frozen
  all       all layers trained; in part and all, layers that come trained move at a fifth of the rate of the output

A training takes config.train.num_epochs passes over its pictures, 100 steps at least, with the config's optimizer,
schedule and augmentation. The table goes to stdout, transfer.png and transfer.json's cells to the workdir.

Example:
  run.py transfer --config=experiments/cats_vs_dogs.py:cifar --init_from=runs/cifar10 --workdir=runs/transfer \
      --sizes=10,30,100,300,1000,all --seeds=3
"""

import argparse
import json
from pathlib import Path

TRAINS = True  # in its workdir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--init_from", metavar="WHAT", help="a run, a file of weights, or hf:...: config.init_from")
    parser.add_argument("--sizes", default="10,30,100,300,1000,all", metavar="N,N,...", help="training pictures")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the pictures and starts; default: 3")
    parser.add_argument("--arms", default="scratch,features,part,all", help="of these four; default: all of them")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Runs what is missing, prints the table and draws it."""
    from cnnjax import devices
    from cnnjax.config import load_config
    from cnnjax.errors import UsageError, unknown
    from cnnjax.report.sizes import plot_sizes
    from cnnjax.report.table import format_count, format_table
    from cnnjax.transfer.arms import ARMS
    from cnnjax.transfer.few import mean_and_deviation, parse_sizes
    from cnnjax.transfer.grid import run_grid, summary

    given = [f"--config.init_from={args.init_from}"] if args.init_from else []
    config = load_config(args.config, [*args.overrides, *given])
    if not config.init_from:
        raise UsageError("no trained network to start from: give --init_from=RUN, a file of weights or hf:OWNER/NAME")
    if not args.workdir:
        raise UsageError("no workdir given; add --workdir=runs/NAME, the folder of the comparison")
    if args.seeds < 1:
        raise UsageError(f"--seeds is {args.seeds}, but must be 1 or more")
    arms = args.arms.split(",")
    for arm in arms:
        if arm not in ARMS:
            raise UsageError(f"{unknown('arm', arm, ARMS)}; set --arms")
    sizes = parse_sizes(args.sizes, "--sizes")
    devices.use_compilation_cache()
    workdir = Path(args.workdir).expanduser()
    rows = summary(run_grid(workdir, config, arms, sizes, args.seeds))
    curves = {arm: {r["train_examples"]: r["accuracy"] for r in rows if r["arm"] == arm} for arm in arms}
    picture = workdir / "transfer.png"
    data = Path(config.data.source.partition(":")[2] or config.data.source).name
    named = {ARMS[arm]: curves[arm] for arm in arms}
    plot_sizes(named, picture, title=f"{data} from {Path(config.init_from).name}")
    if args.json:
        print(json.dumps({"picture": str(picture), "rows": rows}, ensure_ascii=False))
        return 0
    table, counts = [], sorted({row["train_examples"] for row in rows})
    for count in counts:
        means = {arm: sum(curves[arm][count]) / len(curves[arm][count]) for arm in arms if count in curves[arm]}
        best = max(means, key=lambda arm: means[arm])
        shown = [mean_and_deviation(curves[arm][count]) if count in curves[arm] else "-" for arm in arms]
        table.append((format_count(count), *shown, best))
    print(format_table(("training pictures", *arms, "best"), table, "r" * (len(arms) + 1) + "l"))
    print(f"\ntest accuracy, mean ± standard deviation over {args.seeds} draws\n{picture}")
    return 0
