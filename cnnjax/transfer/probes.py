# SPDX-License-Identifier: Apache-2.0
"""Small classifiers on fixed features: logistic regression, ridge and nearest neighbours, chosen by validation.

Reference: Donahue et al. 2014 (DeCAF, arXiv:1310.1531) and Sharif Razavian et al. 2014 (arXiv:1403.6382) for features
of a trained network under a linear classifier.
"""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cnnjax.errors import UsageError, unknown

_FOLDS = 5
_SETTINGS: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "logistic": ("C", (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)),
    "ridge": ("alpha", (1.0, 10.0, 1e2, 1e3, 1e4, 1e5)),
    "neighbours": ("k", (1, 3, 5, 9, 15, 25)),
}
METHODS = tuple(_SETTINGS)
"""logistic: softmax regression, C the inverse weight of the L2 term | ridge: least squares on +-1, alpha its weight |
neighbours: the k nearest by cosine. Features are first brought to mean 0 and deviation 1 on the training rows."""


class Probe(NamedTuple):
    """A classifier chosen and measured.

    Attributes:
      method: of METHODS.
      setting: "C = 0.1".
      chosen_on: "4-fold cross-validation", "validation", or "nothing: ..." where there are too few rows.
      chosen_accuracy: 0..1, of the setting there; None where nothing chose it.
      accuracy: 0..1, on the test rows.
      correct: [N] bool, each test row.
    """

    method: str
    setting: str
    chosen_on: str
    chosen_accuracy: float | None
    accuracy: float
    correct: np.ndarray


Rows = tuple[np.ndarray, np.ndarray]
"""Features [N,D] and labels [N]."""


def probe(method: str, train: Rows, test: Rows, validation: Rows | None = None, *, seed: int = 0) -> Probe:
    """Fits `method` on `train`, its one setting chosen on `validation` or by cross-validation within `train`.

    Of settings that are equally good the middle one of them counts. The test rows choose nothing.

    Args:
      method: of METHODS.
      train: of every class at least one row.
      test: what is measured.
      validation: None: stratified cross-validation in at most five folds; with a class of a single row there is
        none, and the middle setting is taken.
      seed: of the folds.

    Raises:
      UsageError: no such method, or training rows of one class only.
    """
    if method not in _SETTINGS:
        raise UsageError(unknown("method", method, METHODS))
    counts = np.bincount(train[1])
    if np.count_nonzero(counts) < 2:
        raise UsageError("the training pictures are of one class only; give pictures of two at least")
    name, settings = _SETTINGS[method]
    if method == "neighbours":
        settings = tuple(k for k in settings if k <= max(1, len(train[1]) // 2))
    smallest = int(counts[counts > 0].min())
    scores, chosen_on = None, "nothing: a class has one picture only"
    if validation is not None:
        scores, chosen_on = [_accuracy(method, s, train, validation).mean() for s in settings], "validation"
    elif smallest > 1:
        folds = _folds(train[1], min(_FOLDS, smallest), seed)
        scores = [np.concatenate([_accuracy(method, s, *_parted(train, f)) for f in folds]).mean() for s in settings]
        chosen_on = f"{len(folds)}-fold cross-validation"
    best = [i for i, score in enumerate(scores) if score == max(scores)] if scores else list(range(len(settings)))
    number = best[len(best) // 2]
    correct = _accuracy(method, settings[number], train, test)
    chosen_accuracy = float(scores[number]) if scores else None
    setting = f"{name} = {settings[number]:g}"
    return Probe(method, setting, chosen_on, chosen_accuracy, float(correct.mean()), correct)


def _accuracy(method: str, setting: Any, train: Rows, test: Rows) -> np.ndarray:
    """[N] bool: which test rows a classifier of that setting gets right."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train[0])
    with warnings.catch_warnings():
        # Rows that a plane parts have no best C = infinity; where the search stops is then as good as any.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier = _classifier(method, setting, len(train[1])).fit(scaler.transform(train[0]), train[1])
    return np.asarray(classifier.predict(scaler.transform(test[0])) == test[1])


def _classifier(method: str, setting: Any, num_rows: int) -> Any:
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier

    if method == "logistic":
        return LogisticRegression(C=setting, max_iter=500)
    if method == "ridge":
        return RidgeClassifier(alpha=setting)
    return KNeighborsClassifier(min(setting, num_rows), metric="cosine")


def _folds(label: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    """The rows that each fold holds out, classes in their shares."""
    from sklearn.model_selection import StratifiedKFold

    split = StratifiedKFold(count, shuffle=True, random_state=seed).split(np.zeros((len(label), 1)), label)
    return [held_out for _, held_out in split]


def _parted(rows: Rows, held_out: np.ndarray) -> tuple[Rows, Rows]:
    kept = np.ones(len(rows[1]), bool)
    kept[held_out] = False
    return (rows[0][kept], rows[1][kept]), (rows[0][held_out], rows[1][held_out])
