# SPDX-License-Identifier: Apache-2.0
"""Print the table of a network: layers, output shapes, parameters and multiply-adds.

For a config (--config) or for the network of a run (--workdir). Nothing is trained or computed: the table is read
from the traced network, a model of your own as well as those shipped.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnjax.types import Config, Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the table."""
    from cnnjax.inspect.summary import format_table, summarize, to_json

    summary = summarize(*_model_shape_name(args))
    print(json.dumps(to_json(summary), ensure_ascii=False) if args.json else format_table(summary))
    return 0


def _model_shape_name(args: argparse.Namespace) -> "tuple[Model, tuple[int, int, int], str]":
    """The network, (H, W, C) of its images and its name, of `--config`, else of the run in `--workdir`."""
    from cnnjax.config import load_config, load_run_config
    from cnnjax.data import load_dataset
    from cnnjax.experiment import build_model
    from cnnjax.workdir import dataset_info

    config: Config
    if args.workdir and not args.config:
        workdir = Path(args.workdir).expanduser()
        config, info = load_run_config(workdir, args.overrides), dataset_info(workdir)
        return build_model(config, len(info.label_names)), info.image_shape, config.model.name
    config = load_config(args.config, args.overrides)
    dataset = load_dataset(config.data, ("train",))
    height, width, channels = dataset.splits["train"].image.shape[1:]
    return build_model(config, len(dataset.label_names)), (height, width, channels), config.model.name
