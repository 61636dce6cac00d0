# SPDX-License-Identifier: Apache-2.0
"""Add a smile: attribute vectors in an autoencoder's latent space, measured and drawn.

The mean latent of the training pictures with an attribute minus that of the others, added in several strengths to
held-out pictures: --attribute=smile, or a digit against the others. Sheets, a page with sliders, and the figures in
latent.json go to WORKDIR/latent. A classifier, another run on the same labels, tells how often it works.
"""

import argparse
import json
from pathlib import Path

STRENGTHS = "-1,0,0.5,1,1.5,2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--attribute", metavar="NAME", help="a label of the set, or a yes-or-no feature (CelebA)")
    parser.add_argument("--against", metavar="LABEL", help="the label that it is told from; default: all others")
    parser.add_argument("--direction", default="mean", help="mean (default): difference of means; or logistic")
    parser.add_argument("--strengths", default=STRENGTHS, metavar="S,S", help=f"of the vector; default: {STRENGTHS}")
    parser.add_argument("--classifier", metavar="DIR", help="a run that tells the attribute; default: none is asked")
    parser.add_argument("--draws", type=int, default=5, help="random vectors beside it; default: 5")
    parser.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="a picture of your own; repeatable"
    )
    parser.add_argument("--index", default="", metavar="I,J", help="rows of the split; default: the first without it")
    parser.add_argument("--num", type=int, default=8, help="how many of these; default: 8")
    parser.add_argument("--split", default="test", choices=("validation", "test"), help="held-out; default: test")
    parser.add_argument("--checkpoint", default="latest", metavar="STEP", help="latest (default), best or a step")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn at random; default: 0")
    parser.add_argument("--out", metavar="DIR", help="where the files go; default: WORKDIR/latent")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout: all figures")


def run(args: argparse.Namespace) -> int:
    """Measures and draws."""
    from cnnjax import devices
    from cnnjax.errors import UsageError, unknown
    from cnnjax.experiment import load_network
    from cnnjax.latent import explore
    from cnnjax.latent.codec import load_codec
    from cnnjax.latent.contrast import load_contrast
    from cnnjax.latent.drawing import draw
    from cnnjax.latent.judge import load_judge
    from cnnjax.latent.tables import effect_table, remark
    from cnnjax.latent.vectors import DIRECTIONS
    from cnnjax.predict import picture_files
    from cnnjax.report.environment import write_json
    from cnnjax.report.table import format_table
    from cnnjax.views.subject import parse_indices

    strengths = _strengths(args.strengths)
    if args.direction not in DIRECTIONS:
        raise UsageError(unknown("--direction", args.direction, DIRECTIONS))
    if args.draws < 0:
        raise UsageError(f"--draws is {args.draws}; it must be 0 or more")
    devices.use_compilation_cache()
    network = load_network(args.workdir, args.checkpoint, args.overrides)
    files = [path for place in args.image for path in picture_files(place)]
    codec = load_codec(network, args.workdir)
    contrast = load_contrast(network, args.attribute, args.against, args.split)
    judge = load_judge(args.classifier, contrast) if args.classifier else None
    indices = parse_indices(args.index)
    shown = explore.choose(codec, contrast, network, files=files, indices=indices, num=args.num)
    latents = explore.find_latents(codec, contrast, args.direction)
    numbers = explore.measure(codec, contrast, latents, judge, strengths=strengths, draws=args.draws, seed=args.seed)
    folder = Path(args.out or Path(args.workdir) / "latent").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw(folder, network, codec, contrast, latents, shown, judge, numbers, strengths=strengths, seed=args.seed)
    document = {
        "workdir": args.workdir,
        "step": network.step,
        "direction": args.direction,
        **numbers,
        "files": [{"file": str(path), "caption": caption} for path, caption in drawn],
    }
    write_json(folder / "latent.json", document)
    if args.json:
        print(json.dumps(document, ensure_ascii=False))
        return 0
    rows = [
        (name, f"{found['psnr']:.2f} dB", f"{found['ssim']:.4f}")
        for name, found in numbers["reconstruction"].items()
        if found
    ]
    head = f"{codec.size} numbers a picture"
    print(format_table((head, "PSNR", "SSIM"), rows, "lrr"), end="\n\n")
    header, effect = effect_table(numbers)
    print(format_table(header, effect, "r" * len(header)), end="\n\n")
    print(remark(numbers), end="\n\n")
    for path, caption in drawn:
        print(f"{path}  {caption}")
    return 0


def _strengths(text: str) -> list[float]:
    import math

    from cnnjax.errors import UsageError

    try:
        strengths = [float(part) for part in text.split(",")]
    except ValueError:
        strengths = []
    if not strengths or not all(map(math.isfinite, strengths)):
        raise UsageError(f"--strengths is {text!r}; give numbers, --strengths={STRENGTHS}")
    return strengths
