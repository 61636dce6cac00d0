# SPDX-License-Identifier: Apache-2.0
"""Evaluation: every example of a split exactly once, one compiled step over padded and masked batches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnnjax import devices
from cnnjax.data.resident import num_batches
from cnnjax.errors import Diverged, UsageError
from cnnjax.host_memory import gaps_closed
from cnnjax.metrics import Evaluation
from cnnjax.preprocess import PrepareViewFn
from cnnjax.protocols.views import Views
from cnnjax.types import Array, Batch, Model, ModelState, Params, PrepareFn, PyTree, Stream, Task, TrainState

Evaluate = Callable[[Params, ModelState], Evaluation]
Scores = Callable[[Params, ModelState, Stream], np.ndarray]
"""`scores(params, model_state, stream)`: what a network says of each example, float32 [N,K], averaged over views."""


def evaluated(state: TrainState) -> tuple[Params, ModelState]:
    """What is evaluated of a state, whole on every device: the running average of the parameters where one is kept."""
    return devices.whole((state.ema_params or state.params, state.model_state))


def make_evaluate(
    model: Model, task: Task, prepare: PrepareFn, stream: Stream, label: np.ndarray, mesh: Mesh
) -> Evaluate:
    """`evaluate(params, model_state) -> Evaluation` over `stream`, whose rows have the labels `label` [N].

    Raises (the returned function):
      Diverged: an output is not finite.
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

    compiled = gaps_closed(jax.jit(step, out_shardings=devices.replicated(mesh)))

    def evaluate(params: Params, model_state: ModelState) -> Evaluation:
        rows: list[Any] = []
        for i in range(num_batches(stream)):
            item = _item(stream, i, mesh)
            rows.append(compiled(params, model_state, stream.arrays, item))
        # Padding stands at the end only, so that cutting leaves each example once, in order.
        values = {name: np.concatenate([np.asarray(row[name]) for row in rows])[: len(label)] for name in rows[0]}
        prediction, probability = values.pop("prediction", None), values.pop("probability", None)
        bad = int(np.sum(~np.isfinite(values["loss"])))
        if bad:
            raise Diverged(f"the network's output is not finite for {bad} of {len(label)} examples")
        return Evaluation(values, prediction, probability, label)

    return evaluate


def make_scores(model: Model, prepare: PrepareViewFn, views: Views, mesh: Mesh, *, averaging: str) -> Scores:
    """The mean over `views` of the network's probabilities or logits (`averaging`), for all examples of a stream.

    The views pass the network one after another, so they take no more memory than one.

    Raises (the returned function):
      UsageError: the network has no classes.
      Diverged: an output is not finite.
    """

    def step(
        params: Params, model_state: ModelState, arrays: PyTree, item: PyTree, row: Mapping[str, Array], make_batch: Any
    ) -> Array:
        batch = jax.lax.with_sharding_constraint(make_batch(arrays, item), devices.split_rows(mesh))
        outputs, _ = model.apply(params, model_state, prepare(batch, row), train=False)
        if "logits" not in outputs:
            raise UsageError("a network without classes has no views to average; evaluate it with --protocol=single")
        return jax.nn.softmax(outputs["logits"]) if averaging == "probabilities" else outputs["logits"]

    compiled = gaps_closed(jax.jit(step, out_shardings=devices.replicated(mesh), static_argnames="make_batch"))
    rows = [{name: values[v] for name, values in views.rows.items()} for v in range(len(views.weight))]

    def scores(params: Params, model_state: ModelState, stream: Stream) -> np.ndarray:
        batches = []
        for i in range(num_batches(stream)):
            item = _item(stream, i, mesh)
            shown = [compiled(params, model_state, stream.arrays, item, row, make_batch=stream.batch) for row in rows]
            batches.append(sum(w * np.asarray(view) for w, view in zip(views.weight, shown, strict=True)))
        result = np.concatenate(batches)[: stream.num_examples]
        bad = int(np.sum(~np.isfinite(result).all(axis=1)))
        if bad:
            raise Diverged(f"the network's output is not finite for {bad} of {len(result)} examples")
        return result

    return scores


def _item(stream: Stream, step: int, mesh: Mesh) -> PyTree:
    """The item of one step, on the devices."""
    items = jax.tree.map(lambda x: x[0], stream.items(step, 1))
    place = devices.place_rows if stream.local else devices.place_replicated
    return place(items, mesh)


def logits_of(scores: np.ndarray, averaging: str) -> np.ndarray:
    """Averaged scores [N,K] as logits: the logarithm of probabilities, or the mean logits as they are."""
    return np.log(np.maximum(scores, np.finfo(np.float32).tiny)) if averaging == "probabilities" else scores


def combined(logits: Sequence[np.ndarray], averaging: str) -> np.ndarray:
    """The logits of an ensemble, [N,K], from those of its members: the mean of probabilities, or of logits."""
    if averaging == "logits":
        return np.mean(logits, axis=0)
    return logits_of(np.mean([jax.nn.softmax(each) for each in logits], axis=0), averaging)


def judge(logits: np.ndarray, label: np.ndarray, task: Task) -> Evaluation:
    """The evaluation of logits [N,K] that came about in any way, against labels [N]."""
    rows = jnp.asarray(label)
    batch = Batch(image=rows, label=rows, mask=jnp.ones(len(label)))  # a task of classes looks at no picture
    values = jax.jit(lambda logits: task({"logits": logits}, batch))(jnp.asarray(logits))
    probability = np.asarray(jax.nn.softmax(logits))
    prediction = logits.argmax(axis=1).astype(np.int32)
    chosen = np.take_along_axis(probability, prediction[:, None], axis=1)[:, 0]
    return Evaluation({name: np.asarray(value) for name, value in values.items()}, prediction, chosen, label)
