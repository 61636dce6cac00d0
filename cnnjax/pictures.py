# SPDX-License-Identifier: Apache-2.0
"""The pictures of a run that has ended: its curves, what it takes for what, its mistakes, and its page."""

from pathlib import Path

import jax
import numpy as np

from cnnjax.metrics import Evaluation, confusion_matrix, format_metric
from cnnjax.parts import Parts
from cnnjax.predict import make_infer
from cnnjax.report.log import read_metrics
from cnnjax.types import Dataset, ModelState, Params

CURVES, CONFUSION, MISTAKES = "curves.png", "confusion.png", "mistakes.png"
RECONSTRUCTIONS = "reconstructions.png"
NUM_MISTAKES = 24
NUM_RECONSTRUCTIONS, NUM_WORST = 18, 6  # pictures of all kinds, then those repeated worst


def draw(parts: Parts, path: Path, params: Params, model_state: ModelState, evaluation: Evaluation, split: str) -> None:
    """Draws the evaluation of a run's last parameters on `split` into its folder."""
    # Matplotlib is slow to load, and training need not wait for it.
    from cnnjax.page.one_run import write_report
    from cnnjax.report.curves import plot_curves

    plot_curves(read_metrics(path), path / CURVES, title=f"{path.name}: {parts.dataset.name}")
    if "accuracy" in evaluation.values:
        _draw_errors(parts.dataset, path, evaluation, split)
    if "psnr" in evaluation.values:
        _draw_reconstructions(parts, path, params, model_state, evaluation, split)
    model = parts.training.model
    write_report(path, dataset=parts.dataset, evaluation=evaluation, split=split, model=model, params=params)


def _draw_errors(dataset: Dataset, path: Path, evaluation: Evaluation, split: str) -> None:
    from cnnjax.report.confusion import plot_confusion
    from cnnjax.report.mistakes import plot_mistakes

    assert evaluation.prediction is not None and evaluation.probability is not None  # an accuracy comes from classes
    names = dataset.label_names
    matrix = confusion_matrix(evaluation.label, evaluation.prediction, len(names))
    right = f"{100 * evaluation.summary()['accuracy']:.2f}% right"
    title = f"{dataset.name}, {len(evaluation.label):,} {split} images, {right}"
    plot_confusion(matrix, names, path / CONFUSION, title=title)
    wrong = np.flatnonzero(evaluation.prediction != evaluation.label)
    worst = wrong[np.argsort(-evaluation.values["loss"][wrong], kind="stable")][:NUM_MISTAKES]
    plot_mistakes(
        dataset.splits[split].image[worst],
        [names[i] for i in evaluation.label[worst]],
        [names[i] for i in evaluation.prediction[worst]],
        [float(p) for p in evaluation.probability[worst]],
        path / MISTAKES,
        title=f"{dataset.name}, {split} mistakes",
        total=len(wrong),
    )


def _draw_reconstructions(
    parts: Parts, path: Path, params: Params, model_state: ModelState, evaluation: Evaluation, split: str
) -> None:
    from cnnjax.report.reconstructions import plot_reconstructions

    names, images, psnr = parts.dataset.label_names, parts.dataset.splits[split].image, evaluation.values["psnr"]
    spread = np.linspace(0, len(images) - 1, min(NUM_RECONSTRUCTIONS, len(images)), dtype=int)
    worst = np.argsort(psnr, kind="stable")[:NUM_WORST]
    chosen = np.concatenate([spread, worst])
    infer = jax.jit(make_infer(parts.config, parts.training.model, len(names)))
    recons = np.asarray(infer(params, model_state, images[chosen])["recon"])
    captions = [f"{names[evaluation.label[i]]}, {format_metric('psnr', float(psnr[i]))}" for i in chosen]
    mean = format_metric("psnr", evaluation.summary()["psnr"])
    title = f"{parts.dataset.name}, {split}: picture and reconstruction, {mean} on average; last the {len(worst)} worst"
    plot_reconstructions(images[chosen], recons, captions, path / RECONSTRUCTIONS, title=title)
