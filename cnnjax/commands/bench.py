# SPDX-License-Identifier: Apache-2.0
"""Measure whole steps of a config: how fast, where the time goes, and PyTorch or plain Flax beside.

  run.py bench --config=experiments/resnet_cifar10.py --peer=torch

Median and extremes over rounds, after a warm-up. With --peer the same network in the other framework takes its turns
in the same process, augmentation being left out on both sides: same batch, loss, optimizer and data. Any config
works, a network of your own as well; a peer is for the networks that ship. Where the data are not on this machine,
made-up pictures of the config's shape take their place, which the output says.

  --mode=train    steps of training, as 'train' takes them (default)
  --mode=eval     inference, from stored pixels to the outputs
  --mode=input    the data alone: rows, gathering, augmentation, normalisation; of a streamed set with --peer=torch,
                  pictures a second beside bare decoding and torchvision's DataLoader
  --mode=startup  from starting Python to the end of the first step, with an empty and a filled compilation cache
  --mode=growth   time and memory against batch size, image size, depth and data set size: growth.md, .png and .json
                  in --out; what growth.json holds is not measured again
  --mode=scaling  a training step on 1, 2, 4 and 8 devices, parameters whole and divided: time, and bytes that the
                  devices send; on a CPU the devices are made up and share its cores
  --mode=estimate a training step on a slice of TPUs that is not here (--slice=v5e:16x16, --batch_size=B in all):
                  compiled for it, and timed by published speeds; minutes of compilation
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODES = ("train", "eval", "input", "startup", "growth", "scaling", "estimate")
DEFAULT_ROUNDS = {"startup": 3, "growth": 5}
PEERS = ("torch", "flax")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--mode", default="train", choices=MODES, help="what to measure (default: train)")
    parser.add_argument("--peer", choices=PEERS, help="measure the same network in another framework, by turns")
    parser.add_argument(
        "--batch_size", metavar="B|best", help="images a step, or the best (default: config.data.batch_size)"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="repetitions (default: 7; startup 3, growth 5)")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of a round (default: as many as take a second)")
    parser.add_argument("--warmup", type=int, default=3, metavar="N", help="steps before (default: 3)")
    parser.add_argument("--synthetic", action="store_true", help="made-up pictures even where the data are at hand")
    parser.add_argument("--input", metavar="HxWxC", help="shape of made-up pictures (default: as in the data)")
    parser.add_argument("--num_classes", type=int, metavar="K", help="of made-up pictures (default: as in the data)")
    parser.add_argument("--examples", type=int, metavar="N", help="made-up pictures (default: 512, or a batch)")
    parser.add_argument("--cold", action="store_true", help="compile without the compilation cache")
    parser.add_argument("--out", metavar="DIR", help="--mode=growth: where to write")
    parser.add_argument("--limit", type=int, metavar="N", help="--mode=growth: points to measure now (default: all)")
    parser.add_argument(
        "--slice", default="v5e:16x16", metavar="CHIP:RxC", help="--mode=estimate: v5e or v6e (v5e:16x16)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Measures and prints."""
    from cnnjax.errors import UsageError

    for flag in ("rounds", "steps", "warmup", "num_classes", "examples", "limit"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise UsageError(f"--{flag} is {value}; it must be 1 or more")
    args.rounds = args.rounds or DEFAULT_ROUNDS.get(args.mode, 7)
    apart = {"startup": _startup, "growth": _growth, "scaling": _scaling, "estimate": _estimate}
    if args.mode in apart:
        if args.peer:
            raise UsageError(f"--mode={args.mode} has no peer; --peer is for train and eval")
        return apart[args.mode](args)
    if args.mode == "input" and args.peer == "torch":
        return _loading(args)
    if args.peer == "torch":
        # Both frameworks share an accelerator: JAX must not take three quarters of its memory at once.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    from cnnjax.bench.whole import Options, measure
    from cnnjax.config import load_config

    config = load_config(args.config, _overrides(args))
    names = Options._fields
    options = Options(**{name: value for name, value in vars(args).items() if name in names}, image=args.input)
    options = options._replace(best_batch=args.batch_size == "best")
    measured = measure(config, args.config, options)
    return _show(args, measured.document, measured.text)


def _overrides(args: argparse.Namespace) -> list[str]:
    given = args.batch_size if args.batch_size != "best" else None
    return [*args.overrides, *([f"--config.data.batch_size={given}"] if given else [])]


def _loading(args: argparse.Namespace) -> int:
    from cnnjax.bench.loading import format_loading, measure_loading
    from cnnjax.config import load_config

    measured = measure_loading(load_config(args.config, _overrides(args)), rounds=args.rounds, steps=args.steps)
    return _show(args, measured, format_loading(measured))


def _scaling(args: argparse.Namespace) -> int:
    from cnnjax.bench.scaling import Setup, format_scaling, measure_scaling

    setup = Setup(args.config, _overrides(args), args.rounds, args.input, args.num_classes)
    document = _in_fresh_processes(args, lambda: measure_scaling(setup))
    return _show(args, document, format_scaling(document))


def _startup(args: argparse.Namespace) -> int:
    from cnnjax.bench.startup import Start, format_startup, measure_startup, startup_json

    start = Start(args.config, _overrides(args), args.synthetic, args.input, args.num_classes)
    document = _in_fresh_processes(args, lambda: startup_json(measure_startup(start, args.rounds)))
    return _show(args, document, format_startup(document))


def _in_fresh_processes(args: argparse.Namespace, measure: Callable[[], Any]) -> dict[str, Any]:
    """The document of a mode that starts processes of its own, which need the devices before this one does."""
    from cnnjax.architectures.timing import machine
    from cnnjax.config import load_config

    config = load_config(args.config, _overrides(args))
    measured = measure()
    return {
        "config": args.config,
        "mode": args.mode,
        "device": machine(),
        "batch_size": config.data.batch_size,
        **dict.fromkeys(("images_per_second", "compile_seconds", "peer", "ratio", "peak_fraction")),
        "network": config.model.name,
        "rounds": args.rounds,
        args.mode: measured,
    }


def _estimate(args: argparse.Namespace) -> int:
    import jax

    from cnnjax.bench.estimate import estimate, format_estimate, parse_slice
    from cnnjax.bench.slices import compile_step, slice_mesh
    from cnnjax.bench.subject import load_subject
    from cnnjax.config import load_config

    config = load_config(args.config, _overrides(args))
    chip, axes = parse_slice(args.slice)
    jax.config.update("jax_platforms", "cpu")  # this machine only traces
    mesh = slice_mesh(args.slice)
    subject = load_subject(config, synthetic=True, image=args.input, num_classes=args.num_classes, examples=1)
    program = compile_step(subject, mesh)
    document = {
        "config": args.config,
        "mode": "estimate",
        "slice": args.slice,
        "chips": mesh.size,
        "chips_per_host": chip.chips_per_host,
        "hbm_bytes": chip.hbm_bytes,
        "network": config.model.name,
        "macs": subject.macs,
        "dtype": config.train.dtype,
        "batch_size": config.data.batch_size,
        "program": program._replace(collectives=tuple(one._asdict() for one in program.collectives))._asdict(),
        "estimate": estimate(program, chip, axes, config.data.batch_size),
    }
    return _show(args, document, format_estimate(document))


def _growth(args: argparse.Namespace) -> int:
    from cnnjax.bench.growth import measure_growth
    from cnnjax.errors import UsageError

    if not args.out:
        raise UsageError("--mode=growth needs a folder: --out=DIR")
    done = measure_growth(args.config, _overrides(args), Path(args.out), rounds=args.rounds, limit=args.limit)
    return _show(args, {"written": done.splitlines()}, done)


def _show(args: argparse.Namespace, document: Any, text: str) -> int:
    print(json.dumps(document, ensure_ascii=False) if args.json else text)
    return 0
