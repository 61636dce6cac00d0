# SPDX-License-Identifier: Apache-2.0
"""What depth does to training: the gradient's norm layer by layer, and the loss that comes of it, of several runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import FuncFormatter

from cnnjax.report.curves import running_mean, thin
from cnnjax.report.figure import PAIRED, figure, shorten


class DepthCurves(NamedTuple):
    """One run.

    Attributes:
      name: of the run.
      initial: gradient norms of its kernels before training, first layer first.
      trained: the same at its last checkpoint.
      loss: (steps, training loss) as logged.
    """

    name: str
    initial: Sequence[float]
    trained: Sequence[float]
    loss: tuple[np.ndarray, np.ndarray]


def plot_depth(runs: Sequence[DepthCurves], path: Path, *, title: str) -> None:
    """Three panels: gradient norm by depth before training and after it, and the training loss by step.

    Neighbouring runs share a hue, pale and full, so that runs in the order of their names pair up.

    Raises:
      RunError: the file cannot be written.
    """
    with figure(path, 8.4, 3.3) as drawn:
        before, after, loss = drawn.subplots(1, 3)
        after.sharey(before)
        drawn_losses: list[np.ndarray] = []
        for i, run in enumerate(runs):
            style = {"color": PAIRED[i % len(PAIRED)], "label": shorten(run.name, 7.5, 1.6)}
            for panel, norms in ((before, run.initial), (after, run.trained)):
                panel.plot(np.arange(1, len(norms) + 1), norms, "-", marker=".", markersize=2.5, linewidth=1, **style)
            steps, values = run.loss
            drawn_losses.append(thin(running_mean(values)))
            loss.plot(thin(steps), drawn_losses[-1], "-", **style)
        for panel, when in ((before, "before training"), (after, "after training")):
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.set_title(f"Gradient norm, {when}", loc="left")
            panel.set_xlabel("kernel, from input to output")
        after.tick_params(labelleft=False)
        # The first steps of a deep network may be far above all that follows.
        highest = [np.quantile(values, 0.95) for values in drawn_losses if len(values)]
        if highest:
            loss.set_ylim(top=1.05 * max(highest))
        loss.set_title("Training loss, running mean", loc="left")
        loss.set_xlabel("step")
        handles, labels = before.get_legend_handles_labels()
        drawn.suptitle(shorten(title, 9, 8.0, "bold"), fontweight="bold")
        drawn.legend(handles, labels, loc="outside lower center", ncols=min(len(runs), 6))
