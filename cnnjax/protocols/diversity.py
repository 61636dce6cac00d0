# SPDX-License-Identifier: Apache-2.0
"""How differently several networks err: an ensemble of networks that err alike gains nothing.

Reference: Kuncheva, Whitaker, "Measures of diversity in classifier ensembles and their relationship with the ensemble
accuracy", Machine Learning 51, 2003, sections 2 and 3.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np


class Diversity(NamedTuple):
    """Of two networks on the same examples; NaN where a measure divides by nothing, as with no error at all.

    Attributes:
      disagreement: share of examples that they give different classes; 0: the same answers.
      q_statistic: of right and wrong, -1..1; 1: they err on the same examples, 0: independently.
      error_correlation: of right and wrong, -1..1 (the phi coefficient).
      kappa: agreement of the classes beyond chance, 1: the same answers (Cohen 1960).
    """

    disagreement: float
    q_statistic: float
    error_correlation: float
    kappa: float


def pairwise(prediction: np.ndarray, label: np.ndarray) -> dict[tuple[int, int], Diversity]:
    """The diversity of each pair of M networks, from predictions [M,N] and labels [N]."""
    return {(i, j): diversity(prediction[i], prediction[j], label) for i, j in combinations(range(len(prediction)), 2)}


def diversity(first: np.ndarray, second: np.ndarray, label: np.ndarray) -> Diversity:
    """Of two networks' predictions [N], against labels [N]."""
    right, other = first == label, second == label
    both, neither = float(np.sum(right & other)), float(np.sum(~right & ~other))
    one, two = float(np.sum(right & ~other)), float(np.sum(~right & other))
    product, crossed = both * neither, one * two
    spread = (both + one) * (neither + two) * (both + two) * (neither + one)
    agree = float(np.mean(first == second))
    classes = max(first.max(), second.max()) + 1
    shares = [np.bincount(each, minlength=classes) / len(label) for each in (first, second)]
    by_chance = float(shares[0] @ shares[1])
    return Diversity(
        1 - agree,
        _ratio(product - crossed, product + crossed),
        _ratio(product - crossed, spread**0.5),
        _ratio(agree - by_chance, 1 - by_chance),
    )


def mean_diversity(pairs: dict[tuple[int, int], Diversity]) -> Diversity:
    """The mean of each measure over the pairs that have it."""
    columns = np.array(list(pairs.values()), np.float64)
    known = ~np.isnan(columns)
    return Diversity(
        *(float(c[k].mean()) if k.any() else float("nan") for c, k in zip(columns.T, known.T, strict=True))
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
