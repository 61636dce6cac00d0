# SPDX-License-Identifier: Apache-2.0
"""The page of one run."""

import logging
from pathlib import Path

import numpy as np

from cnnjax.errors import RunError, UsageError
from cnnjax.inspect.summary import Summary, summarize
from cnnjax.metrics import Evaluation, format_metric
from cnnjax.page.curves import curves_section
from cnnjax.page.data import data_section
from cnnjax.page.document import MAX_BYTES, Section, document, note
from cnnjax.page.html import element, table
from cnnjax.page.mistakes import calibration_section, confusion_section, matrix_of, worst_section
from cnnjax.page.network import filters_section, first_filters, network_section
from cnnjax.page.record import RunRecord, read_run
from cnnjax.page.results import header, results_section
from cnnjax.page.seen import reconstructions_section, seen_section
from cnnjax.page.setup import config_section, environment_section
from cnnjax.report.environment import write_atomic
from cnnjax.types import Dataset, Model, Params

REPORT = "report.html"
logger = logging.getLogger(__name__)


def write_report(
    workdir: Path,
    *,
    dataset: Dataset | None = None,
    evaluation: Evaluation | None = None,
    split: str = "test",
    model: Model | None = None,
    params: Params | None = None,
    remark: str | None = None,
) -> Path:
    """Writes the page of a run, WORKDIR/report.html, from its files and what is at hand of the rest.

    Args:
      workdir: of the run.
      dataset: its data, for samples and mistakes.
      evaluation: of `split`, for everything about mistakes.
      split: one of `dataset`.
      model: its network, for the table of layers.
      params: of the network, for its first filters.
      remark: what the reader must know of these, such as why some are missing.

    Returns:
      The path of the page.

    Raises:
      RunError: the run's files cannot be read, or the page cannot be written.
    """
    run = read_run(workdir)
    summary = None
    if model:
        try:
            summary = summarize(model, run.info.image_shape, run.config.model.name)
        except UsageError as error:  # a network that trains but cannot be read leaves its table out
            logger.warning("the report has no table of layers: %s", error)
    page = make_page(run, summary, dataset, evaluation, split, params, remark)
    if len(page) > MAX_BYTES:
        logger.warning("the report has %.1f MB; it holds large pictures", len(page) / 1e6)
    write_atomic(workdir / REPORT, page)
    return workdir / REPORT


def make_page(
    run: RunRecord,
    summary: Summary | None,
    dataset: Dataset | None,
    evaluation: Evaluation | None,
    split: str,
    params: Params | None,
    remark: str | None,
) -> bytes:
    """The page as UTF-8; see `write_report`."""
    results = results_section(run)
    if remark:
        results = results._replace(content=(*results.content, element("p", remark, class_="warning")))
    sections: list[Section | None] = [results, curves_section(run.records)]
    if evaluation is not None:
        sections += _about_mistakes(run, dataset, evaluation, split)
    sections.append(reconstructions_section(run.path, "reconstructions.png"))
    if summary is not None and params is not None:
        found = first_filters(summary, params, run.info.image_shape)
        sections.append(filters_section(*found) if found else None)
    sections.append(seen_section(run.path))
    sections += [
        network_section(summary) if summary else None,
        data_section(run.info, dataset),
        config_section(run),
        environment_section(run),
    ]
    head = header(run, summary.params if summary else None, summary.macs if summary else None)
    return document(f"{run.name}: {run.info.name}", head, [section for section in sections if section])


def _about_mistakes(
    run: RunRecord, dataset: Dataset | None, evaluation: Evaluation, split: str
) -> list[Section | None]:
    names = run.info.label_names
    if evaluation.prediction is None:
        return [_by_class(evaluation, names, split)]
    matrix = matrix_of(evaluation, len(names))
    return [
        confusion_section(matrix, names, split),
        worst_section(dataset, evaluation, split) if dataset else None,
        calibration_section(evaluation),
    ]


def _by_class(evaluation: Evaluation, names: tuple[str, ...], split: str) -> Section:
    """The mean of each metric by class, of a network without classes."""
    metrics = list(evaluation.summary())
    rows = []
    for label, name in enumerate(names):
        own = evaluation.label == label
        means = [float(np.mean(evaluation.values[metric][own])) if own.any() else None for metric in metrics]
        cells = ["-" if m is None else format_metric(metric, m) for metric, m in zip(metrics, means, strict=True)]
        rows.append((name, f"{own.sum():,}", *cells))
    shown = table(
        ("class", "images", *metrics), rows, "lr" + "r" * len(metrics), caption="Metrics by class", sortable=True
    )
    return Section("classes", "Class by class", (note(f"Means over the {split} images of each class."), shown))


def check_same_data(run: RunRecord, dataset: Dataset) -> None:
    """Raises RunError when the data are not those that the run was made for."""
    shapes = {split.image.shape[1:] for split in dataset.splits.values()}
    if dataset.label_names != run.info.label_names or shapes != {run.info.image_shape}:
        raise RunError(f"{dataset.name} is not the set of the run in {run.path}; give it the data it was made for")
