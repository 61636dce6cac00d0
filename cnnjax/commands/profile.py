# SPDX-License-Identifier: Apache-2.0
"""Trace training steps and list the costliest operations by layer and pass.

  run.py profile --config=experiments/resnet_cifar10.py --out=profiles/resnet20

Writes DIR/plugins/profile/.../*.trace.json.gz, which https://ui.perfetto.dev shows, an .xplane.pb for TensorBoard, and
DIR/operations.json. The table names what a researcher knows, "stage1/block2/conv1 kernel gradient", with its share,
its time a step and, where the multiply-adds are known, its rate.
"""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--out", metavar="DIR", help="where to write (or --workdir)")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="steps to trace (default: 5)")
    parser.add_argument("--warmup", type=int, default=3, metavar="N", help="steps before (default: 3)")
    parser.add_argument("--rows", type=int, default=30, metavar="N", help="of the table (default: 30)")
    parser.add_argument("--synthetic", action="store_true", help="made-up pictures even where the data are at hand")
    parser.add_argument("--input", metavar="HxWxC", help="shape of made-up pictures (default: as in the data)")
    parser.add_argument("--num_classes", type=int, metavar="K", help="of made-up pictures (default: as in the data)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Traces, writes and prints."""
    from cnnjax import devices
    from cnnjax.bench.profile import profile
    from cnnjax.bench.subject import load_subject
    from cnnjax.config import load_config
    from cnnjax.errors import UsageError

    folder = args.out or args.workdir
    if not folder:
        raise UsageError("no folder given; add --out=DIR, where the trace is written")
    for flag in ("steps", "warmup", "rows"):
        if getattr(args, flag) < 1:
            raise UsageError(f"--{flag} is {getattr(args, flag)}; it must be 1 or more")
    # A step a call: the program's outputs are then those of one step.
    config = load_config(args.config, [*args.overrides, "--config.train.steps_per_dispatch=1"])
    devices.use_compilation_cache()
    devices.set_up(config.train)
    subject = load_subject(config, synthetic=args.synthetic, image=args.input, num_classes=args.num_classes)
    done = profile(
        subject, args.config, Path(folder).expanduser(), steps=args.steps, warmup=args.warmup, rows=args.rows
    )
    print(json.dumps(done.document, ensure_ascii=False) if args.json else done.text)
    return 0
