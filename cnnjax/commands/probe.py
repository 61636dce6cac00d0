# SPDX-License-Identifier: Apache-2.0
r"""Fit small classifiers on the fixed features of a trained network: what few pictures are enough for.

The pictures of another data set pass the network once; what a layer says of them is kept in the cache. On these
features scikit-learn fits logistic regression, ridge and nearest neighbours, each with its setting chosen by
cross-validation on the training pictures (with all of them, on the validation split). The test split only measures.

Examples:
  run.py probe --workdir=runs/cifar10 --config.data.source=folder:pictures --train_examples=10,30,100,all
  run.py probe --config=experiments/resnet_imagenet.py:18 --config.init_from=hf:timm/resnet18.a1_in1k \
      --config.data.source=folder:pictures
"""

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnjax.types import Dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument(
        "--checkpoint", default="latest", metavar="STEP", help="of the run: latest (default), best, STEP"
    )
    parser.add_argument("--init_from", metavar="WHAT", help="short for --config.init_from=WHAT")
    parser.add_argument("--layer", default="features", help="the network's output to take; default: features")
    parser.add_argument(
        "--train_examples", default="all", metavar="N,N,...", help="training pictures; default: all of them"
    )
    parser.add_argument("--seeds", type=int, default=3, help="draws of the training pictures where not all; default: 3")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints a row for each number of training pictures and method."""
    from cnnjax import devices
    from cnnjax.config import load_config
    from cnnjax.errors import UsageError
    from cnnjax.report.table import format_duration, format_table
    from cnnjax.transfer.backbone import of_config, of_run
    from cnnjax.transfer.few import measure, parse_sizes

    if args.seeds < 1:
        raise UsageError(f"--seeds is {args.seeds}, but must be 1 or more")
    devices.use_compilation_cache()
    if args.workdir and args.init_from:
        raise UsageError("--workdir and --init_from both name the trained network: give one of them")
    started = time.perf_counter()
    if args.workdir:
        backbone, dataset = of_run(args.workdir, args.checkpoint, args.config, args.overrides)
    else:
        given = [f"--config.init_from={args.init_from}"] if args.init_from else []
        backbone, dataset = of_config(load_config(args.config, [*args.overrides, *given]))
    sizes = parse_sizes(args.train_examples, "--train_examples")
    rows, seconds = measure(backbone, dataset, args.layer, sizes, args.seeds, devices.make_mesh())
    if args.json:
        print(json.dumps(_document(dataset, args.layer, rows, seconds), ensure_ascii=False))
        return 0
    header = ("training pictures", "method", "test accuracy", "draws", "setting (of the first draw)", "chosen on")
    cells = [
        (row.size, row.method, row.shown(), len(row.probes), row.probes[0].setting, row.probes[0].chosen_on)
        for row in rows
    ]
    names = (
        f"{backbone.config.model.name}, layer {args.layer}",
        f"{dataset.name}, {len(dataset.splits['test'].label)}",
    )
    print(f"{names[0]}, on {names[1]} test pictures of {len(dataset.label_names)} classes\n")
    print(format_table(header, cells, "rlrrll"))
    took = (seconds["features"], seconds["classifiers"], time.perf_counter() - started)
    whole = [format_duration(each) for each in took]
    print(f"\nfeatures {whole[0]}, classifiers {whole[1]}, all {whole[2]}")
    return 0


def _document(dataset: "Dataset", layer: str, rows: Any, seconds: dict[str, float]) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "test_examples": len(dataset.splits["test"].label),
        "layer": layer,
        "seconds": seconds,
        "rows": [
            {
                "train_examples": row.size,
                "method": row.method,
                "accuracy": [each.accuracy for each in row.probes],
                "setting": [each.setting for each in row.probes],
                "chosen_on": row.probes[0].chosen_on,
            }
            for row in rows
        ],
    }
