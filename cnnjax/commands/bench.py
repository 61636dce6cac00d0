# SPDX-License-Identifier: Apache-2.0
"""Measure how fast a config runs here: whole steps, where their time goes, and PyTorch or plain Flax beside.

  run.py bench --config=experiments/resnet_cifar10.py --peer=torch

Median and extremes over rounds, after a warm-up. With --peer the same network in the other framework takes its turns
in the same process, augmentation being left out on both sides: same batch, loss, optimizer and data. Any config
works, a network of your own as well; a peer is for the networks that ship. Where the data are not on this machine,
made-up pictures of the config's shape take their place, which the output says.

  --mode=train    steps of training, as 'train' takes them (default)
  --mode=eval     inference, from stored pixels to the outputs
  --mode=input    the data alone: rows, gathering, augmentation, normalisation
"""

import argparse
import json
import os

MODES = ("train", "eval", "input")
PEERS = ("torch", "flax")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--mode", default="train", choices=MODES, help="what to measure (default: train)")
    parser.add_argument("--peer", choices=PEERS, help="measure the same network in another framework, by turns")
    parser.add_argument("--batch_size", metavar="B", help="images a step (default: config.data.batch_size)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="repetitions (default: 7)")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of a round (default: as many as take a second)")
    parser.add_argument("--warmup", type=int, default=3, metavar="N", help="steps before (default: 3)")
    parser.add_argument("--synthetic", action="store_true", help="made-up pictures even where the data are at hand")
    parser.add_argument("--input", metavar="HxWxC", help="shape of made-up pictures (default: as in the data)")
    parser.add_argument("--num_classes", type=int, metavar="K", help="of made-up pictures (default: as in the data)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Measures and prints."""
    from cnnjax.errors import UsageError

    for flag in ("rounds", "steps", "warmup", "num_classes"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise UsageError(f"--{flag} is {value}; it must be 1 or more")
    if args.peer == "torch":
        # Both frameworks share an accelerator: JAX must not take three quarters of its memory at once.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    from cnnjax.bench.whole import Options, measure
    from cnnjax.config import load_config

    overrides = [*args.overrides, *([f"--config.data.batch_size={args.batch_size}"] if args.batch_size else [])]
    config = load_config(args.config, overrides)
    names = Options._fields
    options = Options(**{name: value for name, value in vars(args).items() if name in names}, image=args.input)
    measured = measure(config, args.config, options)
    print(json.dumps(measured.document, ensure_ascii=False) if args.json else measured.text)
    return 0
