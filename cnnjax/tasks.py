# SPDX-License-Identifier: Apache-2.0
"""What a network is trained for: from outputs and a batch to per-example losses and metrics."""

import jax
import jax.numpy as jnp
import optax

from cnnjax.errors import UsageError, unknown
from cnnjax.types import Array, Batch, Config, Outputs, Task


def classification(*, label_smoothing: float = 0.0) -> Task:
    """Softmax cross-entropy in nats, `accuracy` and `top5_accuracy` (0 or 1); K <= 5 makes the last always 1.

    `label` is [B] int32, or [B,K] probabilities when classes are mixed; the likeliest class then counts as the
    true one. Label smoothing as in Szegedy et al. 2016 (arXiv:1512.00567), section 7.
    """

    def task(outputs: Outputs, batch: Batch) -> dict[str, Array]:
        logits, label = outputs["logits"], batch["label"]
        num_classes = logits.shape[-1]
        target = label if label.ndim == 2 else jax.nn.one_hot(label, num_classes)
        truth = jnp.argmax(target, axis=-1)
        true_logit = jnp.take_along_axis(logits, truth[:, None], axis=-1)
        # Ties and NaN count against the truth, so that a constant or broken network does not score.
        rank = jnp.sum(~(logits < true_logit), axis=-1) - 1
        return {
            "loss": optax.softmax_cross_entropy(logits, optax.smooth_labels(target, label_smoothing)),
            "accuracy": (rank < 1).astype(jnp.float32),
            "top5_accuracy": (rank < min(5, num_classes)).astype(jnp.float32),
        }

    return task


TASKS = {"classification": classification}


def make_task(task: Config, *, train: bool) -> Task:
    """The task of `config.task`; label smoothing belongs to training and leaves evaluation alone."""
    if task.name not in TASKS:
        raise UsageError(unknown("config.task.name", task.name, TASKS))
    return TASKS[task.name](label_smoothing=task.label_smoothing if train else 0.0)
