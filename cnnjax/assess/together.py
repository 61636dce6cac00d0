# SPDX-License-Identifier: Apache-2.0
"""Several networks on one split: each alone, all together, how differently they err, and whether one is better."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnjax.assess.networks import Member
from cnnjax.evaluate import combined
from cnnjax.protocols.diversity import mean_diversity, pairwise
from cnnjax.protocols.intervals import mcnemar, mean_interval


def ensemble(
    members: Sequence[Member], logits: Sequence[np.ndarray], label: np.ndarray, averaging: str
) -> dict[str, Any]:
    """The members, the pairs of them and the ensemble, as numbers.

    Args:
      members: M networks.
      logits: [N,K] of each.
      label: [N].
      averaging: "probabilities" or "logits".

    Returns:
      `members`: accuracy, interval and nll of each; `mean`, `std` (over members, n - 1) and `best` of their
      accuracies; `ensemble`: its accuracy, interval, nll, `gain_over_best`, with McNemar's test against the best
      member, and `gain_over_mean`; `diversity`: the mean over pairs; `pairs`: for each the diversity and McNemar's
      test. The best member is the best on this very split, so the gain over it is the least one can claim.
    """
    alone = [answers(each, label) for each in logits]
    right = [each.argmax(axis=1) == label for each in logits]
    accuracy = [each["accuracy"] for each in alone]
    best = int(np.argmax(accuracy))
    whole = combined(logits, averaging)
    together = answers(whole, label)
    pairs = pairwise(np.stack([each.argmax(axis=1) for each in logits]), label)
    return {
        "members": [
            {"name": member.name, "workdir": str(member.workdir), "step": member.network.step, **each}
            for member, each in zip(members, alone, strict=True)
        ],
        "mean": float(np.mean(accuracy)),
        "std": float(np.std(accuracy, ddof=1)),
        "best": members[best].name,
        "ensemble": {
            **together,
            "averaging": averaging,
            "gain_over_best": together["accuracy"] - accuracy[best],
            "mcnemar_with_best": _mcnemar(right[best], whole.argmax(axis=1) == label),
            "gain_over_mean": together["accuracy"] - float(np.mean(accuracy)),
        },
        "diversity": _plain(mean_diversity(pairs)._asdict()),
        "pairs": [
            {
                "first": members[i].name,
                "second": members[j].name,
                **_plain(each._asdict()),
                "mcnemar": _mcnemar(right[i], right[j]),
            }
            for (i, j), each in pairs.items()
        ],
    }


def answers(logits: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    """accuracy, its 95% interval, and nll (nats) of logits [N,K] against labels [N]."""
    right = logits.argmax(axis=1) == label
    wide = logits - logits.max(axis=1, keepdims=True)
    nll = np.log(np.exp(wide).sum(axis=1)) - wide[np.arange(len(label)), label]
    return {
        "accuracy": float(right.mean()),
        "interval": list(mean_interval(right)),
        "nll": float(nll.mean(dtype=np.float64)),
    }


def _mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    found = mcnemar(first, second)
    return {**found._asdict(), "interval": list(found.interval)}


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
