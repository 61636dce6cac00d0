# SPDX-License-Identifier: Apache-2.0
"""Evaluation: every example of a split exactly once, one compiled step over padded and masked batches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnnjax import devices
from cnnjax.data.resident import num_batches
from cnnjax.errors import RunError
from cnnjax.metrics import Evaluation
from cnnjax.types import Array, Model, ModelState, Params, PrepareFn, PyTree, Stream, Task, TrainState

Evaluate = Callable[[Params, ModelState], Evaluation]


def evaluated(state: TrainState) -> tuple[Params, ModelState]:
    """What is evaluated of a state: the running average of the parameters where one is kept."""
    return state.ema_params or state.params, state.model_state


def make_evaluate(
    model: Model, task: Task, prepare: PrepareFn, stream: Stream, label: np.ndarray, mesh: Mesh
) -> Evaluate:
    """`evaluate(params, model_state) -> Evaluation` over `stream`, whose rows have the labels `label` [N].

    Raises (the returned function):
      RunError: an output is not finite.
    """

    def step(params: Params, model_state: ModelState, arrays: PyTree, item: PyTree) -> dict[str, Array]:
        batch = jax.lax.with_sharding_constraint(stream.batch(arrays, item), devices.split_rows(mesh))
        # Nothing is drawn at random in evaluation; the key only fills the signature.
        batch = prepare(jax.random.key(0), batch)
        outputs, _ = model.apply(params, model_state, batch["image"], train=False)
        values = task(outputs, batch)
        if "logits" not in outputs:
            return values
        probability = jax.nn.softmax(outputs["logits"])
        best = jnp.argmax(probability, axis=-1)
        chosen = jnp.take_along_axis(probability, best[:, None], axis=-1)[:, 0]
        return {**values, "prediction": best.astype(jnp.int32), "probability": chosen}

    compiled = jax.jit(step, out_shardings=devices.replicated(mesh))

    def evaluate(params: Params, model_state: ModelState) -> Evaluation:
        rows: list[Any] = []
        for i in range(num_batches(stream)):
            item = jax.tree.map(lambda x: x[0], stream.items(i, 1))
            rows.append(compiled(params, model_state, stream.arrays, item))
        # Padding stands at the end only, so that cutting leaves each example once, in order.
        values = {name: np.concatenate([np.asarray(row[name]) for row in rows])[: len(label)] for name in rows[0]}
        prediction, probability = values.pop("prediction", None), values.pop("probability", None)
        bad = int(np.sum(~np.isfinite(values["loss"])))
        if bad:
            raise RunError(f"the network's output is not finite for {bad} of {len(label)} examples")
        return Evaluation(values, prediction, probability, label)

    return evaluate
