# SPDX-License-Identifier: Apache-2.0
"""The remedy for a batch that does not fit into the memory: the largest that does, or the same one in parts."""

import contextlib
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cnnjax import memory
from cnnjax.experiment import build_train_step, class_counts
from cnnjax.memory import TooLarge
from cnnjax.parts import Parts
from cnnjax.step import make_dispatch, make_stream_step
from cnnjax.types import Config

ROOM = 0.95
"""Share of the free memory that a remedy may take: the rest of the process wants some too."""

TRIES = 3
"""Numbers of parts that are compiled in search of one that fits; the first is nearly always it."""


@contextlib.contextmanager
def with_remedy(parts: Parts) -> Iterator[None]:
    """Adds to TooLarge what would fit; only then is anything compiled for it."""
    try:
        with memory.exhaustion_told():
            yield
    except TooLarge as error:
        raise TooLarge(f"a batch of {parts.config.data.batch_size}: {error}; {remedy(parts)}") from error


def remedy(parts: Parts) -> str:
    """What would fit: config.data.batch_size, config.train.accumulate; or that nothing would."""
    config, free = parts.config, memory.free_bytes()
    if free is None:
        return "lower config.data.batch_size, or set config.train.accumulate"
    room = int(ROOM * free)
    batch, in_parts = config.data.batch_size, config.train.accumulate
    fitting = largest(parts, room)
    if fitting is None:
        return "not even the smallest batch fits: take a smaller network, smaller pictures or more memory"
    if fitting == batch:
        return f"the step itself fits: lower config.data.eval_batch_size ({config.data.eval_batch_size})"
    ways = (n for n in range(in_parts + 1, batch + 1) if batch % n == 0 and batch // n <= fitting)
    accumulate = next((n for n in itertools.islice(ways, TRIES) if _needed(parts, batch, n) <= room), None)
    whole = f", and config.train.accumulate={accumulate} does with the batch as it is" if accumulate else ""
    return f"config.data.batch_size={fitting} fits{whole}"


def largest(parts: Parts, room: int) -> int | None:
    """The largest batch whose step takes at most `room` bytes beside state and data; None when none does.

    What a step needs grows in proportion with the batch, but for a constant: two programs of small batches tell how,
    and a third one confirms it.
    """
    unit = parts.mesh.size * parts.config.train.accumulate
    batch = parts.config.data.batch_size
    low, high = max(unit, batch // 8 // unit * unit), max(2 * unit, batch // 4 // unit * unit)
    at_low = _needed(parts, low)
    if high >= batch:
        return low if low < batch and at_low <= room else None
    each = max((_needed(parts, high) - at_low) / (high - low), 1.0)
    guess = min(batch, int(low + (room - at_low) / each)) // unit * unit
    while guess >= unit:
        if _needed(parts, guess) <= room:
            return guess
        guess = min(guess - unit, int(0.9 * guess)) // unit * unit
    return None


def _needed(parts: Parts, batch_size: int, accumulate: int | None = None) -> int:
    """Bytes that a step takes with another batch size, beside state and data; nothing is put on a device for it."""
    config: Config = ConfigDict(parts.config.to_dict())
    config.data.batch_size = batch_size
    config.train.accumulate = accumulate or config.train.accumulate
    training, dataset, steps = parts.training, parts.dataset, parts.training.steps_per_dispatch
    image = jax.ShapeDtypeStruct((batch_size, *dataset.splits["train"].image.shape[1:]), jnp.float32)
    step, *_ = build_train_step(config, training.model, image, class_counts(dataset), training.plan)
    stream = training.stream._replace(batch_size=batch_size)
    state = jax.tree.map(lambda x: x.sharding, training.abstract_state)
    step = make_stream_step(step, stream, parts.mesh)
    dispatch = make_dispatch(step, parts.mesh, steps_per_dispatch=steps, state=state)
    items = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((steps, batch_size, *x.shape[2:]), x.dtype), training.stream.blank(1)
    )
    compiled = dispatch.lower(training.abstract_state, stream.arrays, items, np.int32(steps)).compile()
    needed = memory.needed_bytes(compiled.memory_analysis(), (training.abstract_state, stream.arrays))
    assert needed is not None  # a backend that says what is free says this, too
    return needed
