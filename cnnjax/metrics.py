# SPDX-License-Identifier: Apache-2.0
"""Metrics from per-example values: masked means as (sum, count) pairs, and tables of an evaluation."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from cnnjax.types import Array


def masked_sums(values: dict[str, Array], mask: Array) -> dict[str, tuple[Array, Array]]:
    """(sum, count) of each [B] value over the rows with mask 1. Merging by addition is exact in any order."""
    count = jnp.sum(mask)
    # `where`, not a product: a NaN in padding must not spread.
    return {name: (jnp.sum(jnp.where(mask > 0, value, 0.0)), count) for name, value in values.items()}


def means(sums: list[dict[str, tuple[float, float]]]) -> dict[str, float]:
    """The mean of each metric over several (sum, count) pairs, in float64."""
    return {
        name: float(np.sum([s[name][0] for s in sums], dtype=np.float64) / np.sum([s[name][1] for s in sums]))
        for name in sums[0]
    }


class Evaluation(NamedTuple):
    """What a network says of each example of a split, in the split's order."""

    values: dict[str, np.ndarray]  # [N] float32 each: loss and the metrics of the task
    prediction: np.ndarray | None  # [N] int32, the likeliest class; None of a network without classes
    probability: np.ndarray | None  # [N] float32, the probability of that class
    label: np.ndarray  # [N] int32

    def summary(self) -> dict[str, float]:
        """The mean of each value over all examples, the loss first."""
        names = sorted(self.values, key=lambda name: (name != "loss", name))
        return {name: float(np.mean(self.values[name], dtype=np.float64)) for name in names}


def format_metric(name: str, value: float) -> str:
    """A value as tables show it: accuracies in percent, `psnr` in dB, `mse` with a digit more than the others."""
    if name.endswith("accuracy"):
        return f"{100 * value:.2f}%"
    if name == "psnr":
        return f"{value:.2f} dB"
    return f"{value:.5f}" if name == "mse" else f"{value:.4f}"


def confusion_matrix(label: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts [K,K] int64: row the truth, column the prediction."""
    return np.bincount(label.astype(np.int64) * num_classes + prediction, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )


def per_class_accuracy(confusion: np.ndarray) -> np.ndarray:
    """[K] fraction right of each true class; NaN for a class without examples."""
    with np.errstate(invalid="ignore"):
        return np.diag(confusion) / confusion.sum(axis=1)
