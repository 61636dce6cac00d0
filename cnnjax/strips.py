# SPDX-License-Identifier: Apache-2.0
"""The same few pictures at each evaluation, above what an autoencoder made of them: how it learns to see."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from cnnjax import devices, processes
from cnnjax.evaluate import evaluated
from cnnjax.predict import make_infer
from cnnjax.report.reconstructions import write_strip
from cnnjax.types import Config, Dataset, Model, TrainState

FOLDER = "reconstructions"
NUM_PICTURES = 8

EvaluateState = Callable[[TrainState], dict[str, float]]


def with_strips(
    evaluate: EvaluateState, config: Config, model: Model, dataset: Dataset, split: str, workdir: Path
) -> EvaluateState:
    """`evaluate`, which also leaves a strip in WORKDIR/reconstructions where the network reconstructs.

    Args:
      evaluate: the metrics of a state.
      config: of the run.
      model: its network.
      dataset: its data.
      split: whose pictures to show: eight, spread over it.
      workdir: of the run.

    Raises:
      RunError (the returned function): a strip cannot be written.
    """
    if config.task.name != "reconstruction":
        return evaluate
    infer = jax.jit(make_infer(config, model, len(dataset.label_names)))
    images = dataset.splits[split].image
    chosen = images[np.linspace(0, len(images) - 1, min(NUM_PICTURES, len(images)), dtype=int)]

    def evaluate_and_draw(state: TrainState) -> dict[str, float]:
        metrics = evaluate(state)
        own = devices.of_this_process(evaluated(state))
        if not processes.is_first():
            return metrics
        recons = np.asarray(infer(*own, chosen)["recon"])
        write_strip(chosen, recons, workdir / FOLDER / f"step_{int(state.step):08d}.png")
        return metrics

    return evaluate_and_draw
