# SPDX-License-Identifier: Apache-2.0
"""Classify pictures with a trained network.

Takes files, folders and globs of pictures of any size and colour mode; they are prepared as the run's own were.
"""

import argparse
import json
import sys

BATCH_SIZE = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a picture, a folder of pictures, or a glob")
    parser.add_argument("--top", type=int, default=5, help="classes shown for each picture (default: 5)")
    parser.add_argument(
        "--checkpoint", default="latest", metavar="STEP", help="latest (default), best (on validation) or a step"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout, one a picture")


def run(args: argparse.Namespace) -> int:
    """Prints the likeliest classes of each picture, best first; 1 when a picture could not be read."""
    from cnnjax import devices
    from cnnjax.errors import UsageError
    from cnnjax.experiment import load_network
    from cnnjax.predict import load_pictures, make_predict, picture_files

    if args.top < 1:
        raise UsageError(f"--top is {args.top}; it must be 1 or more")
    files = [file for image in args.images for file in picture_files(image)]
    devices.use_compilation_cache()
    network = load_network(args.workdir, args.checkpoint, args.overrides)
    predict = make_predict(network, min(BATCH_SIZE, len(files)))
    names = network.info.label_names
    failed = 0
    for first in range(0, len(files), BATCH_SIZE):
        part = files[first : first + BATCH_SIZE]
        images, unreadable = load_pictures(part, network)
        for file, reason in unreadable.items():
            print(f"error: cannot read {file}: {reason}", file=sys.stderr)
        failed += len(unreadable)
        readable = [file for file in part if file not in unreadable]
        for file, row in zip(readable, predict(images), strict=True):
            top = [(names[i], float(row[i])) for i in (-row).argsort(kind="stable")[: args.top]]
            _show(str(file), top, as_json=args.json)
    return 1 if failed else 0


def _show(file: str, top: list[tuple[str, float]], *, as_json: bool) -> None:
    if as_json:
        rows = [{"label": name, "probability": probability} for name, probability in top]
        print(json.dumps({"file": file, "top": rows}, ensure_ascii=False))
    else:
        print(f"{file}  " + "  ".join(f"{name} {100 * probability:.1f}%" for name, probability in top))
