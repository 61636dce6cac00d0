# SPDX-License-Identifier: Apache-2.0
r"""Make a run of weights from elsewhere: safetensors, PyTorch, or the Hugging Face Hub.

The new workdir is as training would have left it at step 0: evaluate, predict, summary and export take it, and train
goes on from it. The config (--config) says which network it is and how pictures are prepared (data.mean, data.std,
data.image_size, data.resize, data.crop_from). Every tensor is accounted for in a table; one that is missing, left
over or of another shape is an error unless --allow names it.

Examples:
  run.py import-weights timm/resnet18.a1_in1k --config=experiments/resnet_imagenet.py:18 --workdir=runs/resnet18
  run.py import-weights resnet20.th --config=experiments/resnet_cifar10.py:20 --workdir=runs/resnet20
  run.py import-weights vgg16.pth --config=experiments/vgg_imagenet.py:D --workdir=runs/vgg16 \
      --original=torchvision:vgg16
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnjax.types import Config, ModelState, Params
    from cnnjax.weights.fit import Fit
    from cnnjax.weights.parity import Comparison
    from cnnjax.weights.read import Weights

TRAINS = True  # in its workdir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("source", metavar="SOURCE", help="a file, or hf:OWNER/NAME[@REVISION][:FILE] of the Hub")
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, a line each (default: the data's own)")
    parser.add_argument("--input", metavar="HxWxC", help="shape of the images; also sets config.data.image_size")
    parser.add_argument(
        "--names",
        default="",
        metavar="CONVENTION",
        help="torchvision | timm | akamaster | ... | native (default: told by the file)",
    )
    parser.add_argument(
        "--allow", action="append", default=[], metavar="PATTERN",
        help="arrays (with *, ?) that may be missing, left over or of another shape (then they start anew); repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--original",
        metavar="SPEC",
        help="compare with torchvision:NAME, timm:NAME or FILE.py:FUNCTION, layer by layer",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Writes the workdir and prints the table of tensors; nothing is written when anything is wrong."""
    from cnnjax.config import load_config
    from cnnjax.errors import UsageError
    from cnnjax.weights import convert
    from cnnjax.weights import parity as comparison
    from cnnjax.weights.data import describe, known_data
    from cnnjax.weights.fit import fit, load
    from cnnjax.weights.importing import check_free, with_input, write_run
    from cnnjax.weights.read import read_weights

    config = load_config(args.config, args.overrides)
    if not args.workdir:
        raise UsageError("no workdir given; add --workdir=runs/NAME, the folder to make")
    workdir = Path(args.workdir).expanduser()
    check_free(workdir)
    config = with_input(config, args.input)
    known = known_data(config.data, labels=args.labels, image=args.input)
    weights = read_weights(args.source)

    import jax

    from cnnjax import devices

    devices.use_compilation_cache()
    num_labels = len(known.label_names) or None
    fitted = fit(config, weights, known.image_shapes, names=args.names, allow=args.allow, num_labels=num_labels)
    if any(row.status in convert.ERRORS for row in fitted.rows):
        print(convert.table(fitted.rows), file=sys.stderr)
        convert.check(fitted.rows)
    info = describe(known, fitted.num_classes, fitted.image_shape)
    params, model_state = load(fitted, weights.tensors, jax.random.key(config.seed))
    parity = _parity(args.original, config, weights, fitted, params, model_state) if args.original else []
    notes = (*weights.notes, *_doubts(config, fitted, compared=bool(parity)))
    origin = _origin(weights, fitted, parity, notes)
    write_run(workdir, config, info, params, model_state, origin)
    if args.json:
        print(json.dumps({"workdir": str(workdir), **origin}, ensure_ascii=False))
        return 0
    for note in notes:
        print(note)
    if parity:
        print(f"{comparison.table(parity)}\n")
    print(convert.table(fitted.rows))
    shape = "x".join(map(str, fitted.image_shape))
    network = f"{config.model.name}, {fitted.num_classes} classes, images {shape}"
    print(f"\n{weights.source}, names as in {fitted.names}, to {workdir}: {network}")
    return 0


def _parity(
    spec: str, config: "Config", weights: "Weights", fitted: "Fit", params: "Params", model_state: "ModelState"
) -> "list[Comparison]":
    """Compares with the original; when they differ, the table goes to stderr before the error."""
    import numpy as np

    from cnnjax.layers.scan import unstack
    from cnnjax.weights import parity
    from cnnjax.weights.fit import unscanned
    from cnnjax.weights.original import load_original, make_original

    original = load_original(make_original(spec, fitted.num_classes), weights.tensors, spec)
    image = np.random.default_rng(0).standard_normal((1, *fitted.image_shape), np.float32)
    model = unscanned(config, fitted)
    rows = parity.compare(model, unstack(params), unstack(model_state), original, fitted.found, image)
    if not all(row.agrees for row in rows):
        print(parity.table(rows), file=sys.stderr)
        parity.check(rows)
    return rows


def _doubts(config: "Config", fitted: "Fit", *, compared: bool) -> list[str]:
    """What the arrays' shapes cannot tell apart: where a bottleneck has its stride."""
    if compared or fitted.names == "native" or config.model.get("version") != "v1":
        return []
    return [
        f"weights with the names of {fitted.names} are mostly of version v1.5, and config.model.version is v1, which "
        "computes another thing with them; --original compares"
    ]


def _origin(weights: "Weights", fitted: "Fit", parity: "list[Comparison]", notes: tuple[str, ...]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "source": weights.source,
        "sha256": weights.sha256,
        "format": weights.format,
        "names": fitted.names,
        "num_classes": fitted.num_classes,
        "notes": list(notes),
        "tensors": [row._asdict() for row in fitted.rows],
    }
    if parity:
        document["parity"] = [row._asdict() for row in parity]
    return document
