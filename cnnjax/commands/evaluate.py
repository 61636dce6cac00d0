# SPDX-License-Identifier: Apache-2.0
"""Evaluate a trained network, or several together, on a split of their data set.

Config, labels and preprocessing come from the run; --config.KEY=VALUE changes one, as --config.data.dir does when
the data lie elsewhere. Each number has its 95% interval over the examples.

  run.py evaluate --workdir=RUN --protocol=tta --config.eval.views=mirror_shift
  run.py evaluate --workdir=A --workdir=B --workdir=C            the ensemble, its gain, who errs where
  run.py evaluate --workdir=RUN --calibration --corruptions

The keys of config.eval say what a protocol does: crop, scales, views, averaging.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from cnnjax.assess.networks import Member, Scorer
    from cnnjax.types import Split

SEVERAL_WORKDIRS = True
ONCE = True  # each of several processes would do all of it again
PROTOCOLS = ("single", "center", "tencrop", "dense", "multiscale", "tta")
FOLDER = "evaluation"  # below the workdir, of the figures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="default: test")
    parser.add_argument(
        "--checkpoint", default="latest", metavar="STEP", help="latest (default), best (on validation) or a step"
    )
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, help="what is shown of each picture; default: config.eval.protocol of the run"
    )
    parser.add_argument("--calibration", action="store_true", help="ECE, Brier score, and a temperature for them")
    parser.add_argument(
        "--corruptions",
        nargs="?",
        const="usual",
        metavar="KIND,...",
        help="accuracy under noise, blur, less contrast and JPEG at five strengths; or all, or names",
    )
    parser.add_argument(
        "--average",
        default="",
        metavar="KIND,...",
        help="averages of weights beside it: ema, last (of one run), soup, greedy (of several)",
    )
    parser.add_argument("--last", type=int, default=3, metavar="K", help="checkpoints of --average=last (default: 3)")
    parser.add_argument("--out", metavar="DIR", help=f"where figures go; default: {FOLDER} in the first workdir")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints loss and metrics over all examples; of a classifier, accuracies by class too."""
    from cnnjax import devices
    from cnnjax.assess.networks import Scorer, load_members
    from cnnjax.errors import UsageError

    devices.use_compilation_cache()
    overrides = [*args.overrides, *([f"--config.eval.protocol={args.protocol}"] if args.protocol else [])]
    if args.calibration and args.split == "validation":
        raise UsageError("--calibration fits its temperature on validation, so it measures on another --split")
    members = load_members(args.workdirs, args.checkpoint, overrides)
    scorer = Scorer()
    if len(members) == 1 and members[0].network.config.task.name != "classification":
        result, text = _without_classes(args, members[0], scorer)
    else:
        result, text = _classifiers(args, members, scorer)
    print(json.dumps(result, ensure_ascii=False) if args.json else text)
    return 0


def _without_classes(args: argparse.Namespace, member: "Member", scorer: "Scorer") -> tuple[dict[str, Any], str]:
    from cnnjax import devices
    from cnnjax.assess.single import intervals
    from cnnjax.assess.text import metrics_table
    from cnnjax.errors import UsageError
    from cnnjax.experiment import build_evaluate

    network = member.network
    for flag, given in (
        ("--protocol", network.config.eval.protocol != "single"),
        ("--calibration", args.calibration),
        ("--corruptions", args.corruptions),
        ("--average", args.average),
    ):
        if given:
            raise UsageError(f"{flag} is for networks with classes, and {network.config.model.name} has none")
    split = scorer.split(network, args.split)
    run = build_evaluate(network.config, network.model, split, len(network.info.label_names), devices.make_mesh())
    evaluation = run(network.params, network.model_state)
    found = intervals(evaluation)
    result = {**_head(args, [member], split), **evaluation.summary(), "interval": found}
    return result, f"{_title(result, member)}\n\n{metrics_table(evaluation.summary(), found)}"


def _classifiers(args: argparse.Namespace, members: "Sequence[Member]", scorer: "Scorer") -> tuple[dict[str, Any], str]:
    from cnnjax.assess.mixtures import KINDS, make_mixtures
    from cnnjax.assess.single import by_class, intervals
    from cnnjax.assess.text import averages_table, classes_table, ensemble_text, metrics_table
    from cnnjax.assess.together import answers, ensemble
    from cnnjax.errors import UsageError, unknown
    from cnnjax.evaluate import combined, judge
    from cnnjax.tasks import make_task

    kinds = args.average.split(",") if args.average else []
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(unknown("average", kind, KINDS))
    first = members[0].network
    split = scorer.split(first, args.split)
    averaging = first.config.eval.averaging

    def answer(name: str, change: "Callable[[Split], Split] | None" = None) -> "tuple[list[np.ndarray], np.ndarray]":
        each = [scorer.logits(member.network, name, change=change) for member in members]
        return each, each[0] if len(each) == 1 else combined(each, averaging)

    each, logits = answer(args.split)
    result: dict[str, Any] = _head(args, members, split)
    averages = []
    for made in make_mixtures(kinds, members, scorer, args.last):
        mixed = scorer.logits(made.network, args.split, weights=made.weights)
        averages.append({"name": made.name, "parts": list(made.parts), **answers(mixed, split.label)})
    texts = [_title(result, *members)]
    if len(members) == 1:
        evaluation = judge(logits, split.label, make_task(first.config.task, first.config.data, train=False))
        found, classes = intervals(evaluation), by_class(evaluation, first.info.label_names)
        result |= {**evaluation.summary(), "interval": found}
        for key, part in (("per_class", "accuracy"), ("per_class_interval", "interval")):
            result[key] = {name: each[part] for name, each in classes.items()}
        texts += [metrics_table(evaluation.summary(), found), classes_table(classes)]
        texts += [averages_table(answers(logits, split.label), averages, members[0].name)] if averages else []
    else:
        result |= ensemble(members, each, split.label, averaging)
    if averages:
        result["averages"] = averages
    if len(members) > 1:
        texts.append(ensemble_text(result))
    title = f"{result['name']}, {args.split} images of {first.info.name}"
    texts += _truth(args, result, members, scorer, answer, logits, title)
    return result, "\n\n".join(texts)


def _truth(
    args: argparse.Namespace,
    result: dict[str, Any],
    members: "Sequence[Member]",
    scorer: "Scorer",
    answer: "Callable[..., tuple[Any, np.ndarray]]",
    logits: "np.ndarray",
    title: str,
) -> list[str]:
    """Adds calibration and corruptions to `result` where they are asked for; their texts, with the figures' paths."""
    from cnnjax.assess import pictures, text
    from cnnjax.assess.corrupted import corruption_names, under_corruptions
    from cnnjax.assess.single import calibration

    folder = Path(args.out).expanduser() if args.out else Path(args.workdirs[0]).expanduser() / FOLDER
    first, texts = members[0].network, []
    label = scorer.split(first, args.split).label
    if args.calibration:
        fit_label = scorer.split(first, "validation").label
        found = result["calibration"] = calibration(logits, label, answer("validation")[1], fit_label)
        path = folder / "reliability.png"
        pictures.plot_reliability(found, path, title=title)
        found["figure"] = str(path)
        texts.append(f"{text.calibration_text(found)}\n{path}  reliability")
    if args.corruptions:
        kinds = corruption_names(args.corruptions)
        found = under_corruptions(lambda change: answer(args.split, change)[1], label, kinds)
        result["corruptions"], path = found, folder / "corruptions.png"
        pictures.plot_corruptions(found, path, title=title)
        found["figure"] = str(path)
        texts.append(f"{text.corruptions_table(found)}\n{path}  the same, drawn")
    return texts


def _head(args: argparse.Namespace, members: "Sequence[Member]", split: "Split") -> dict[str, Any]:
    first = members[0]
    one = {"workdir": str(args.workdirs[0]), "step": first.network.step} if len(members) == 1 else {}
    name = first.network.config.model.name if len(members) == 1 else f"{len(members)} networks"
    protocol = first.network.config.eval.protocol
    return {**one, "name": name, "split": args.split, "protocol": protocol, "num_examples": len(split.label)}


def _title(result: dict[str, Any], *members: "Member") -> str:
    from cnnjax.protocols import make_protocol
    from cnnjax.report.table import format_count

    network = members[0].network
    step = f", step {format_count(network.step)}" if len(members) == 1 else ""
    views = make_protocol(network.config, network.info.image_shape).num_views
    how = "" if result["protocol"] == "single" else f", {result['protocol']} ({views} views)"
    data = f"{format_count(result['num_examples'])} {result['split']} images of {network.info.name}"
    return f"{result['name']}{step}, on {data}{how}"
