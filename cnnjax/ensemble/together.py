# SPDX-License-Identifier: Apache-2.0
"""Several networks in one compiled step, by `vmap` over their parameters, keys, orders and learning rates."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cnnjax import devices
from cnnjax.data.resident import train_stream
from cnnjax.ensemble.configs import varied
from cnnjax.errors import UsageError
from cnnjax.experiment import build_train_step, class_counts
from cnnjax.memory import check_fits
from cnnjax.parts import Parts
from cnnjax.step import Many, Sums, repeated
from cnnjax.types import Array, Config, PyTree, Stream, TrainState

WAYS = ("vmap", "turns", "unrolled", "map")
_AXES = (0, (None, 0, 0), 1, None)  # of the members in state, (data, keys, numbers), items, count


class Together(NamedTuple):
    """Networks that are trained in one step; their axis is the first of every array of the state, but in turns.

    Attributes:
      dispatch: compiled `(state, arrays, items, count) -> (state, rows)`; rows are [members, steps].
      stream: their batches, [members,B,...]; they share the data, not the order. Items have them on the second axis.
      init: the states before the first step, one a member.
      stack: puts one state a member together.
      take: `take(i, state)` is the state of member i, on every device.
      rows: `rows(i, rows)` are its sums, [steps].
    """

    dispatch: Any
    stream: Stream
    init: Callable[[], list[TrainState]]
    stack: Callable[[Sequence[TrainState]], Any]
    take: Callable[[int, Any], TrainState]
    rows: Callable[[int, Any], PyTree]


def build_together(parts: Parts, configs: Sequence[Config], way: str) -> Together:
    """The compiled step of `configs`, which have one `program`.

    Over several devices the members are divided when their number allows it, and then nothing passes between
    devices; else each member's batch is.

    Args:
      parts: built from the first of the configs.
      configs: one a member.
      way: "vmap": one batched program; "turns": a program of one member, called for each in turn; "unrolled": the
        operations of one member after the other's in one program; "map": a loop over the members in the program.

    Raises:
      UsageError: the members do not fit into the memory.
    """
    training, mesh, config, size = parts.training, parts.mesh, configs[0], len(configs)
    if training.later:
        raise UsageError(
            "config.unfreeze changes the step on the way, which several networks in one step cannot: set "
            "config.unfreeze=() or config.ensemble_size=1"
        )
    if training.stream.local:
        raise UsageError(
            "several networks in one step share a set in memory, and this one is streamed: set "
            "config.data.stream=false, or config.ensemble_size=1"
        )
    if config.train.shard_params:
        raise UsageError(
            "config.train.shard_params divides one network, and several in one step are divided already: set it to 0"
        )
    classes, steps = class_counts(parts.dataset), training.steps_per_dispatch
    image = jax.ShapeDtypeStruct(
        (training.stream.batch_size, *parts.dataset.splits["train"].image.shape[1:]), jnp.float32
    )
    by_member = way != "turns" and mesh.size > 1 and size % mesh.size == 0
    keys = jnp.stack([jax.random.key(each.seed) for each in configs])
    numbers = {n: jnp.asarray([each.optimizer[n] for each in configs], jnp.float32) for n in varied(configs)}

    def one(state: TrainState, arrays: PyTree, item: PyTree) -> tuple[TrainState, Sums]:
        data, key, own = arrays
        batch = training.stream.batch(data, item)
        if not by_member:
            batch = jax.lax.with_sharding_constraint(batch, devices.split_rows(mesh))
        train_step, *_ = build_train_step(config, training.model, image, classes, training.plan, **own)
        return train_step(state, batch, key)

    many = repeated(one, steps) if way == "turns" else over_members(repeated(one, steps), way)
    everywhere, divided = devices.replicated(mesh), NamedSharding(mesh, PartitionSpec("data"))
    placed = divided if by_member else everywhere
    if by_member:
        of, to = PartitionSpec("data"), PartitionSpec()
        specs = (of, (to, of, of), PartitionSpec(None, "data"), to)
        many = jax.shard_map(many, mesh=mesh, in_specs=specs, out_specs=(of, of), check_vma=False)
    keys, numbers = jax.device_put((keys, numbers), placed)
    stream = _stream(parts, configs, (training.stream.arrays, keys, numbers))
    items, count = jax.device_put((stream.items(0, steps), np.int32(steps)), everywhere)

    def init() -> list[TrainState]:
        return [training.init_from(jax.random.key(each.seed)) for each in configs]

    if way == "turns":
        dispatch = _Turns(many, everywhere)
        states = [training.abstract_state] * size
        compiled = dispatch.lower(states, stream.arrays, items, count).compile()
        check_fits(compiled.memory_analysis(), stream.arrays, states[1:], config)
        return Together(dispatch, stream, init, list, lambda i, state: state[i], lambda i, rows: rows[i])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((size, *x.shape), x.dtype, sharding=placed), training.abstract_state
    )
    jitted = jax.jit(many, donate_argnums=0, out_shardings=(placed, placed))
    compiled = jitted.lower(abstract, stream.arrays, items, count).compile()
    check_fits(compiled.memory_analysis(), stream.arrays, [], config, size)

    @functools.partial(jax.jit, out_shardings=placed)
    def stack(states: Sequence[TrainState]) -> TrainState:
        return jax.tree.map(lambda *own: jnp.stack(own), *states)

    @functools.partial(jax.jit, out_shardings=everywhere)
    def take(i: Array | int, state: TrainState) -> TrainState:
        return _at(state, i, 0)

    return Together(jitted, stream, init, stack, take, lambda i, rows: jax.tree.map(lambda x: x[i], rows))


class _Turns:
    """As a compiled call over all members, but each takes its turn: the state and the rows are lists."""

    def __init__(self, many: Many, placed: NamedSharding):
        def own_turn(state: TrainState, arrays: PyTree, items: PyTree, count: Array, i: Array) -> Any:
            data, *rest = arrays
            return many(state, (data, *_at(rest, i, 0)), _at(items, i, 1), count)

        self._turn = jax.jit(own_turn, donate_argnums=0, out_shardings=(placed, placed))

    def __call__(self, states: list[TrainState], *arguments: Any) -> tuple[list[TrainState], list[Sums]]:
        done = [self._turn(state, *arguments, np.int32(i)) for i, state in enumerate(states)]
        return [state for state, _ in done], [rows for _, rows in done]

    def lower(self, states: list[TrainState], *arguments: Any) -> Any:
        """As of a compiled function."""
        return self._turn.lower(states[0], *arguments, np.int32(0))


def over_members(many: Many, way: str) -> Many:
    """`many` of one network as that of all, `way` of WAYS but turns."""
    if way == "vmap":
        return jax.vmap(many, _AXES, 0)

    def own(i: Any, state: TrainState, arrays: PyTree, items: PyTree) -> tuple[TrainState, PyTree, PyTree]:
        data, *rest = arrays
        return _at(state, i, 0), (data, *_at(rest, i, 0)), _at(items, i, 1)

    def all_members(state: TrainState, arrays: PyTree, items: PyTree, count: Array) -> tuple[TrainState, Sums]:
        size = jax.tree.leaves(state)[0].shape[0]
        if way == "map":
            return jax.lax.map(lambda i: many(*own(i, state, arrays, items), count), jnp.arange(size))
        done = [many(*own(i, state, arrays, items), count) for i in range(size)]
        return jax.tree.map(lambda *each: jnp.stack(each), *done)

    return all_members


def _at(tree: PyTree, i: Any, axis: int) -> Any:
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, axis, keepdims=False), tree)


def _stream(parts: Parts, configs: Sequence[Config], arrays: PyTree) -> Stream:
    base, split = parts.training.stream, parts.dataset.splits["train"]
    with_partner = "partner_example" in base.items(0, 1)
    # The data lie on the device once: of the members' streams only the orders are used.
    orders = [
        train_stream(
            split,
            batch_size=base.batch_size,
            seed=each.seed,
            balance=each.data.balance,
            with_partner=with_partner,
            put=np.asarray,
        ).items
        for each in configs
    ]

    def items(first_step: int, count: int) -> PyTree:
        return jax.tree.map(lambda *own: np.stack(own, axis=1), *(order(first_step, count) for order in orders))

    def batch(arrays: PyTree, item: PyTree) -> Any:
        return jax.vmap(base.batch, (None, 0))(arrays[0], item)

    return base._replace(arrays=arrays, items=items, blank=functools.partial(items, 0), batch=batch)


def choose_way(parts: Parts) -> str:
    """How to train several networks at once: `config.ensemble_way`, or what measured best (docs/sweeps.md)."""
    return "vmap" if parts.config.ensemble_way == "auto" else parts.config.ensemble_way
