# SPDX-License-Identifier: Apache-2.0
"""One set of answers against the truth: metrics with intervals, classes, and calibration."""

import math
from typing import Any

import numpy as np

from cnnjax.metrics import Evaluation
from cnnjax.protocols.calibration import calibrate, fit_temperature, quality
from cnnjax.protocols.intervals import mean_interval


def intervals(evaluation: Evaluation) -> dict[str, list[float]]:
    """The 95% interval of the mean of each value, the loss first."""
    return {name: list(mean_interval(evaluation.values[name])) for name in evaluation.summary()}


def by_class(evaluation: Evaluation, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """For each class its examples, accuracy and interval; None where it has no example."""
    assert evaluation.prediction is not None  # the caller has a classifier
    found = {}
    for number, name in enumerate(names):
        right = evaluation.prediction[evaluation.label == number] == number
        if len(right):
            found[name] = {
                "num_examples": len(right),
                "accuracy": float(right.mean()),
                "interval": list(mean_interval(right)),
            }
        else:
            found[name] = {"num_examples": 0, "accuracy": None, "interval": None}
    return found


def calibration(logits: np.ndarray, label: np.ndarray, fit_logits: np.ndarray, fit_label: np.ndarray) -> dict[str, Any]:
    """How far probabilities can be believed, before and after a temperature.

    Args:
      logits: [N,K] of the examples that are measured.
      label: [N].
      fit_logits: [n,K] of the validation split, which alone the temperature is fitted on.
      fit_label: [n].

    Returns:
      `temperature`, and `before` and `after`: nll (nats), brier, ece, and `reliability`, one row a bin.
    """
    temperature = fit_temperature(fit_logits, fit_label)
    result: dict[str, Any] = {"temperature": temperature, "fitted_on": len(fit_label)}
    for name, divisor in (("before", 1.0), ("after", temperature)):
        result[name] = {**quality(logits, label, divisor)._asdict(), "reliability": _bins(logits / divisor, label)}
    return result


def _bins(logits: np.ndarray, label: np.ndarray) -> list[dict[str, Any]]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1)
    found = calibrate(probability, logits.argmax(axis=1) == label)
    rows = zip(found.edges, found.edges[1:], found.count, found.confidence, found.accuracy, strict=False)
    return [
        {
            "from": float(low),
            "to": float(high),
            "num_examples": int(count),
            "confidence": None if math.isnan(confidence) else float(confidence),
            "accuracy": None if math.isnan(accuracy) else float(accuracy),
        }
        for low, high, count, confidence, accuracy in rows
    ]
