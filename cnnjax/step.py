# SPDX-License-Identifier: Apache-2.0
"""One training step as a pure function, and the compiled loop that takes several in one call.

No model, data set or task is imported here; they come as arguments.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from cnnjax import devices
from cnnjax.lookahead import Lookahead
from cnnjax.metrics import masked_sums
from cnnjax.types import Array, Batch, Model, ModelState, Params, PrepareFn, PyTree, Stream, Task, TrainState

Sums = dict[str, tuple[Array, Array]]
TrainStep = Callable[[TrainState, Batch, Array], tuple[TrainState, Sums]]

# What the run's key is folded with before dropout draws from it; augmentation folds it with another.
_DROPOUT = 1


class _WithSlow(NamedTuple):
    """The optimizer's state under Lookahead."""

    opt_state: PyTree
    slow: PyTree  # (params, model_state)


def init_state(
    model: Model,
    tx: optax.GradientTransformation,
    image: Any,
    key: Array,
    *,
    ema: bool,
    lookahead: bool = False,
    data: Array | None = None,
) -> TrainState:
    """The state before the first step.

    Args:
      model: the network.
      tx: its optimizer.
      image: [B,H,W,C], shape and dtype only.
      key: of the random initialisation.
      ema: whether a running average of the parameters is kept.
      lookahead: whether the slow weights of Lookahead are.
      data: [N,H,W,C] training images for the network's `init_from_data`, where it has one.
    """
    params, model_state = model.init(key, image)
    if data is not None and model.init_from_data is not None:
        params, model_state = model.init_from_data(params, model_state, data)
    return first_state(params, model_state, tx, ema=ema, lookahead=lookahead)


def first_state(
    params: Params, model_state: ModelState, tx: optax.GradientTransformation, *, ema: bool, lookahead: bool = False
) -> TrainState:
    """The state before the first step, of given parameters; the rest is as for `init_state`."""
    # Copies: two leaves that share a buffer cannot both be donated.
    ema_params = jax.tree.map(jnp.copy, params) if ema else {}
    opt_state = tx.init(params)
    if lookahead:
        opt_state = _WithSlow(opt_state, jax.tree.map(jnp.copy, (params, model_state)))
    return TrainState(jnp.zeros((), jnp.int32), params, model_state, opt_state, ema_params)


def make_train_step(
    model: Model,
    task: Task,
    tx: optax.GradientTransformation,
    prepare: PrepareFn,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    lookahead: Lookahead | None = None,
) -> TrainStep:
    """`train_step(state, batch, key) -> (state, sums)`, pure and not compiled; `key` is the run's base key.

    `sums` holds (sum, count) over the batch for the task's values, and (norm, 1) of the gradient as `gradient_norm`.
    With `accumulate` > 1 the batch passes the network in that many parts and the gradients are averaged.
    """

    def loss_fn(params: PyTree, model_state: PyTree, batch: Batch, key: Array) -> tuple[Array, tuple[PyTree, Sums]]:
        outputs, model_state = model.apply(params, model_state, batch["image"], train=True, key=key)
        sums = masked_sums(task(outputs, batch), batch["mask"])
        loss, count = sums["loss"]
        return loss / jnp.maximum(count, 1), (model_state, sums)

    gradient = _accumulated(jax.grad(loss_fn, has_aux=True), accumulate)

    def train_step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Sums]:
        batch = prepare(key, batch)
        dropout_key = jax.random.fold_in(jax.random.fold_in(key, _DROPOUT), state.step)
        grads, (model_state, sums) = gradient(state.params, state.model_state, batch, dropout_key)
        before = state.opt_state if lookahead is None else state.opt_state.opt_state
        updates, opt_state = tx.update(grads, before, state.params)
        params = optax.apply_updates(state.params, updates)
        if lookahead is not None:
            slow, (params, model_state) = lookahead(state.step + 1, state.opt_state.slow, (params, model_state))
            opt_state = _WithSlow(opt_state, slow)
        ema_params = optax.incremental_update(params, state.ema_params, 1 - ema_decay) if ema_decay else {}
        norm = optax.tree.norm(grads)
        state = TrainState(state.step + 1, params, model_state, opt_state, ema_params)
        return state, {**sums, "gradient_norm": (norm, jnp.ones_like(norm))}

    return train_step


def _accumulated(gradient: Callable[..., Any], parts: int) -> Callable[..., Any]:
    """The mean gradient over `parts` slices of the batch, one at a time; model_state passes from one to the next."""
    if parts == 1:
        return gradient

    def accumulated(params: PyTree, model_state: PyTree, batch: Batch, key: Array) -> Any:
        # Every `parts`-th row: so each part lies on all the devices that the batch is divided over.
        slices = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)

        def part(carry: tuple[PyTree, PyTree], item: tuple[Array, Batch]) -> Any:
            total, model_state = carry
            grads, (model_state, sums) = gradient(params, model_state, item[1], jax.random.fold_in(key, item[0]))
            return (jax.tree.map(jnp.add, total, grads), model_state), sums

        # A running sum: the gradients of all parts together could be the most of what is to be spared.
        begin = jax.tree.map(jnp.zeros_like, params), model_state
        (total, model_state), sums = jax.lax.scan(part, begin, (jnp.arange(parts), slices))
        return jax.tree.map(lambda g: g / parts, total), (model_state, jax.tree.map(lambda s: s.sum(axis=0), sums))

    return accumulated


class Given(NamedTuple):
    """What all calls of a run are given: the arrays of its data, and its key, so that one program serves every seed."""

    data: PyTree
    key: Array  # as numbers, jax.random.key_data


def with_key(stream: Stream, key: Array, mesh: Mesh) -> Stream:
    """`stream`, whose arrays are `Given` with the run's base key."""
    numbers = devices.place_replicated(np.asarray(jax.random.key_data(key)), mesh)

    def batch(arrays: Given, item: PyTree) -> Batch:
        return stream.batch(arrays.data, item)

    return stream._replace(arrays=Given(stream.arrays, numbers), batch=batch)


StreamStep = Callable[[TrainState, Given, PyTree], tuple[TrainState, Sums]]


def make_stream_step(train_step: TrainStep, stream: Stream, mesh: Mesh) -> StreamStep:
    """`step(state, arrays, item) -> (state, sums)`: a training step on an item of `stream`, which is one `with_key`.

    It is traced once for all who ask with arrays on `mesh` of the same shapes.
    """

    def step(state: TrainState, arrays: Given, item: PyTree) -> tuple[TrainState, Sums]:
        batch = jax.lax.with_sharding_constraint(stream.batch(arrays, item), devices.split_rows(mesh))
        return train_step(state, batch, jax.random.wrap_key_data(arrays.key))

    return jax.jit(step, inline=True)


Dispatch = jax.stages.Wrapped
"""Compiled `(state, arrays, items, count) -> (state, rows)`."""


def make_dispatch(step: StreamStep, mesh: Mesh, *, steps_per_dispatch: int, state: PyTree = None) -> Dispatch:
    """Compiles up to `steps_per_dispatch` steps into one call `(state, arrays, items, count) -> (state, rows)`.

    `items` has a leading axis of `steps_per_dispatch`, of which `count` are taken: any count runs the same
    program, so where a run is cut into calls cannot change its numbers. `state` is donated.

    `state` of this function are the shardings of the state (`sharding.divide`); None: it is whole on every device.
    """
    everywhere = devices.replicated(mesh)
    many = repeated(step, steps_per_dispatch)
    return jax.jit(many, donate_argnums=0, out_shardings=(everywhere if state is None else state, everywhere))


Many = Callable[[TrainState, PyTree, PyTree, Array], tuple[TrainState, Sums]]


def repeated(one: Callable[[TrainState, PyTree, PyTree], tuple[TrainState, Sums]], steps_per_dispatch: int) -> Many:
    """`many(state, arrays, items, count)`: `count` times `one(state, arrays, item)`; the sums of a step are a row."""

    def many(state: TrainState, arrays: PyTree, items: PyTree, count: Array) -> tuple[TrainState, Sums]:
        def item_at(i: Array | int) -> PyTree:
            return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), items)

        if steps_per_dispatch == 1:
            state, sums = one(state, arrays, item_at(0))
            return state, jax.tree.map(lambda x: x[None], sums)

        def body(i: Array, carry: tuple[TrainState, Sums]) -> tuple[TrainState, Sums]:
            state, rows = carry
            state, sums = one(state, arrays, item_at(i))
            return state, jax.tree.map(lambda row, x: row.at[i].set(x), rows, sums)

        shapes = jax.eval_shape(one, state, arrays, item_at(0))[1]
        rows = jax.tree.map(lambda x: jnp.zeros((steps_per_dispatch, *x.shape), x.dtype), shapes)
        return jax.lax.fori_loop(0, count, body, (state, rows))

    return many
