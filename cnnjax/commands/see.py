# SPDX-License-Identifier: Apache-2.0
"""Show what a trained network sees: filters, feature maps, saliency, dreams, and more.

Without a view, those that take seconds are drawn. `--list` tells what there is. Pictures go to WORKDIR/see, with the
numbers behind each in a JSON file of the same name.
"""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("views", nargs="*", metavar="VIEW", help="which views; --list shows them")
    parser.add_argument("--list", action="store_true", help="list the views")
    parser.add_argument("--layer", metavar="NAME", help="an output of the network ('run.py summary' lists layers)")
    parser.add_argument("--unit", type=int, metavar="N", help="one channel of the layer, from 0")
    parser.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="a picture of your own; repeatable"
    )
    parser.add_argument("--index", default="", metavar="I,J", help="rows of the split; default: one of each class")
    parser.add_argument("--class", dest="target", metavar="NAME", help="the class asked about; default: the answer")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="default: test")
    parser.add_argument("--checkpoint", default="latest", metavar="STEP", help="latest (default), best or a step")
    parser.add_argument("--num", type=int, default=8, help="how many images or neurons; default: 8")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn at random; default: 0")
    parser.add_argument("--out", metavar="DIR", help="where pictures go; default: WORKDIR/see")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout: the numbers of each view")


def run(args: argparse.Namespace) -> int:
    """Draws the views."""
    from cnnjax.views import get_view, names

    if args.list:
        for name in names():
            print(f"{name:<10} {(get_view(name).__doc__ or '').splitlines()[0]}")
        return 0
    chosen = [get_view(name) for name in args.views] or [v for v in map(get_view, names()) if v.DEFAULT]

    from cnnjax import devices
    from cnnjax.report.environment import write_json
    from cnnjax.views.subject import choose, load_subject, parse_indices

    devices.use_compilation_cache()
    subject = load_subject(args.workdir, args.checkpoint, args.split, args.overrides)
    choice = choose(
        subject,
        args.workdir,
        files=args.image,
        indices=parse_indices(args.index),
        layer=args.layer,
        unit=args.unit,
        target=args.target,
        num=args.num,
        seed=args.seed,
        overrides=args.overrides,
    )
    folder = Path(args.out or Path(args.workdir) / "see").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    document = {}
    for module in chosen:
        name = module.__name__.rpartition(".")[2]
        view = module.draw(subject, choice, folder)
        pictures = [{"file": str(path), "caption": caption} for path, caption in view.pictures]
        document[name] = {"pictures": pictures, **view.numbers}
        write_json(folder / f"{name}.json", document[name])
        if not args.json:
            for line in (*view.lines, *(f"{path}  {caption}" for path, caption in view.pictures)):
                print(line)
    if args.json:
        print(json.dumps(document, ensure_ascii=False))
    return 0
