# SPDX-License-Identifier: Apache-2.0
"""Print the table of a network: outputs, parameters, neurons, multiply-adds, receptive fields.

For a config (--config), for the network of a run (--workdir), or for a layer or a chain of layers written with
PyTorch's names and arguments:

  run.py summary --layer='conv(3, 6, kernel_size=3) > relu > max_pool(2)' --input=8x8x3

Nothing is trained or computed: the table is read from the traced network, a model of your own as well as those
shipped. Receptive field: neuron i of a layer sees `field` pixels from start + i * jump on; with padding it reaches
over the border, so that start may be negative.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnjax.types import Config, Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--layer", metavar="LAYERS", help="layers instead of a network: 'conv(3, 6, 3) > relu'")
    parser.add_argument("--input", metavar="HxWxC", help="shape of the image (default: as in the data)")
    parser.add_argument("--num_classes", type=int, metavar="K", help="of the network (default: as in the data)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the table."""
    from cnnjax.inspect.summary import format_table, summarize, to_json

    summary = summarize(*_model_shape_name(args))
    print(json.dumps(to_json(summary), ensure_ascii=False) if args.json else format_table(summary))
    return 0


def _model_shape_name(args: argparse.Namespace) -> "tuple[Model, tuple[int, int, int], str]":
    """The network, (H, W, C) of its images and its name, of `--layer`, `--config`, else of the run in `--workdir`."""
    from cnnjax.config import load_config, load_run_config
    from cnnjax.errors import UsageError
    from cnnjax.experiment import build_model
    from cnnjax.weights.data import known_data, parse_shape
    from cnnjax.workdir import dataset_info

    if args.num_classes is not None and args.num_classes < 1:
        raise UsageError(f"--num_classes is {args.num_classes}; it takes 1 or more")
    if args.layer:
        from cnnjax.models.layer_spec import parse_layers

        if not args.input:
            raise UsageError("--layer needs the shape of its input: --input=HxWxC, as in --input=8x8x3")
        return parse_layers(args.layer), parse_shape(args.input), args.layer
    config: Config
    if args.workdir and not args.config:
        workdir = Path(args.workdir).expanduser()
        config, info = load_run_config(workdir, args.overrides), dataset_info(workdir)
        num_classes, shape = len(info.label_names), info.image_shape
        shape = parse_shape(args.input) if args.input else shape
    else:
        config = load_config(args.config, args.overrides)
        known = known_data(config.data, image=args.input)
        num_classes, shape = len(known.label_names), known.image_shapes[0]
    num_classes = args.num_classes or num_classes
    if not num_classes:
        raise UsageError(f"the data of {config.data.source} are not here to count their classes; give --num_classes=K")
    return build_model(config, num_classes), shape, config.model.name
