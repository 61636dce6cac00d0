# SPDX-License-Identifier: Apache-2.0
"""Evaluate a trained network on a split of its data set.

Config, labels and preprocessing come from the run; --config.KEY=VALUE changes one, as --config.data.dir does when
the data lie elsewhere.
"""

import argparse
import json
import math


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="default: test")
    parser.add_argument(
        "--checkpoint", default="latest", metavar="STEP", help="latest (default), best (on validation) or a step"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints loss and metrics over all examples; of a classifier, accuracies by class too."""
    from cnnjax import devices
    from cnnjax.data import load_dataset
    from cnnjax.errors import RunError
    from cnnjax.experiment import build_evaluate, load_network
    from cnnjax.metrics import confusion_matrix, format_metric, per_class_accuracy
    from cnnjax.report.table import format_count, format_table

    devices.use_compilation_cache()
    network = load_network(args.workdir, args.checkpoint, args.overrides)
    dataset = load_dataset(network.config.data, (args.split,))
    if args.split not in dataset.splits:
        raise RunError(f"{dataset.name} has no {args.split} split under this config; choose another --split")
    split, names = dataset.splits[args.split], dataset.label_names
    if names != network.info.label_names or split.image.shape[1:] != network.info.image_shape:
        raise RunError(
            f"{dataset.name} has {len(names)} classes and images {split.image.shape[1:]}, the run in {args.workdir} "
            f"{len(network.info.label_names)} classes and {network.info.image_shape}; give it the data it was made for"
        )
    evaluate = build_evaluate(network.config, network.model, split, len(names), devices.make_mesh())
    evaluation = evaluate(network.params, network.model_state)
    result = {
        "workdir": str(args.workdir),
        "step": network.step,
        "split": args.split,
        "num_examples": len(split.label),
        **evaluation.summary(),
    }
    if evaluation.prediction is not None:
        by_class = per_class_accuracy(confusion_matrix(evaluation.label, evaluation.prediction, len(names)))
        result["per_class"] = {
            name: None if math.isnan(value) else float(value) for name, value in zip(names, by_class, strict=True)
        }
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
        return 0
    name, step, count = network.config.model.name, format_count(network.step), format_count(len(split.label))
    head = f"{name}, step {step}, on {count} {args.split} images of {dataset.name}"
    whole = [(name.replace("_", " "), format_metric(name, value)) for name, value in evaluation.summary().items()]
    print(f"{head}\n\n{format_table(('', ''), whole, 'lr')}")
    if "per_class" in result:
        rows = [(name, "-" if value is None else f"{100 * value:.2f}%") for name, value in result["per_class"].items()]
        print(f"\n{format_table(('class', 'accuracy'), rows, 'lr')}")
    return 0
