# SPDX-License-Identifier: Apache-2.0
"""Draw the gradient's norm by depth, and the loss, of one or several runs.

For each kernel of each network: the norm of the mean loss's gradient before training (the run's own first
parameters, made again from its seed) and at the last checkpoint, on the first images of its training split, without
augmentation. A norm that falls by orders of magnitude towards the first layer is a vanishing gradient.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnjax.inspect.gradients import KernelGradient
    from cnnjax.report.depth import DepthCurves

CHECKPOINT = "latest"  # that it reads of each run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of training runs")
    parser.add_argument("--out", metavar="FILE.png", help="the picture; default: gradients.png in the first run")
    parser.add_argument("--num_images", type=int, default=128, help="images of the one batch; default: 128")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout: every norm")


def run(args: argparse.Namespace) -> int:
    """Measures each run and draws the picture."""
    from cnnjax import devices
    from cnnjax.errors import UsageError
    from cnnjax.report.depth import plot_depth
    from cnnjax.report.table import format_table

    if args.num_images < 1:
        raise UsageError(f"--num_images is {args.num_images}, but must be 1 or more")
    devices.use_compilation_cache()
    measured = [_measure(folder, args) for folder in args.runs]
    out = Path(args.out).expanduser() if args.out else Path(args.runs[0]).expanduser() / "gradients.png"
    plot_depth([curves for curves, _ in measured], out, title="How much of the loss's gradient reaches each layer")
    if args.json:
        runs = [
            {
                "run": curves.name,
                "layers": [
                    {"name": layer.name, "initial": layer.norm, "trained": norm}
                    for layer, norm in zip(initial, curves.trained, strict=True)
                ],
            }
            for curves, initial in measured
        ]
        print(json.dumps({"picture": str(out), "runs": runs}, ensure_ascii=False))
        return 0
    rows = [
        (c.name, len(c.initial), *(f"{n:.3g}" for n in (c.initial[0], c.initial[-1], c.trained[0], c.trained[-1])))
        for c, _ in measured
    ]
    header = ("run", "kernels", "first, before", "last, before", "first, after", "last, after")
    print(f"{format_table(header, rows, 'lrrrrr')}\n\n{out}")
    return 0


def _measure(folder: str, args: argparse.Namespace) -> "tuple[DepthCurves, list[KernelGradient]]":
    """The curves of one run, and the norms before training by the kernels' names."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cnnjax.data import load_dataset
    from cnnjax.experiment import load_network
    from cnnjax.inspect.gradients import kernel_gradients
    from cnnjax.preprocess import make_prepare
    from cnnjax.report.depth import DepthCurves
    from cnnjax.report.log import read_metrics
    from cnnjax.tasks import make_task
    from cnnjax.types import Batch

    network = load_network(folder, "latest", args.overrides)
    config, model = network.config, network.model
    split = load_dataset(config.data, ("train",)).splits["train"]
    image, label = jnp.asarray(split.image[: args.num_images]), jnp.asarray(split.label[: args.num_images])
    _, prepare = make_prepare(config.data, config.augment, len(network.info.label_names))
    batch = prepare(jax.random.key(0), Batch(image=image, label=label, mask=jnp.ones(len(label))))
    task = make_task(config.task, config.data, train=True)
    params, model_state = jax.jit(model.init)(jax.random.key(config.seed), batch["image"])
    initial = kernel_gradients(model, task, params, model_state, batch)
    trained = kernel_gradients(model, task, network.params, network.model_state, batch)
    records = [record for record in read_metrics(Path(folder).expanduser()) if record["split"] == "train"]
    loss = np.array([(record["step"], record["loss"]) for record in records], float).reshape(-1, 2).T
    name = Path(folder).expanduser().resolve().name
    return DepthCurves(name, [g.norm for g in initial], [g.norm for g in trained], (loss[0], loss[1])), initial
