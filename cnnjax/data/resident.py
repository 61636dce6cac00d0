# SPDX-License-Identifier: Apache-2.0
"""Streams over a split that lies on the device whole: a batch is a gather, only row numbers are sent."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnnjax.data.order import make_balanced, shuffled, stream_positions
from cnnjax.errors import UsageError
from cnnjax.types import Array, Batch, PyTree, Split, Stream

PutFn = Callable[[np.ndarray], Any]
"""Host array to device array: `jnp.asarray`, or `devices.place_replicated` on a mesh."""


def num_batches(stream: Stream) -> int:
    """Batches that hold every example once: ceil(N / B)."""
    return -(-stream.num_examples // stream.batch_size)


def train_stream(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    balance: bool = False,
    with_partner: bool = False,
    put: PutFn = jnp.asarray,
) -> Stream:
    """Shuffled batches without end; the row at a position depends on `seed` alone, not on the batch size.

    Args:
      split: the training split, N examples.
      batch_size: B, images a step, at most N.
      seed: config.seed, of the order.
      balance: whether every class comes equally often; an epoch then is N rows with some left out, some repeated.
      with_partner: whether `batch["partner"]` holds, for each row, the row at the next position of the stream.
      put: places the two arrays of the split on the device.

    Returns:
      A stream whose `items(s, n)` are int32 [n,B] row numbers and epochs.

    Raises:
      UsageError: the batch is larger than the set.
    """
    num_examples = len(split.label)
    check_train_batch(batch_size, num_examples)

    # A cache of its own: streams of several networks that train together would empty a common one in turn.
    order = functools.lru_cache(maxsize=2)(make_balanced(split.label) if balance else shuffled)

    def items(first_step: int, count: int) -> PyTree:
        rows = count * batch_size
        example, epoch = stream_positions(seed, first_step * batch_size, rows + with_partner, num_examples, order)
        shape = (count, batch_size)
        item = {"example": example[:rows].reshape(shape), "epoch": epoch[:rows].reshape(shape)}
        if with_partner:
            item["partner_example"] = example[1:].reshape(shape)
            item["partner_epoch"] = epoch[1:].reshape(shape)
        return item

    def batch(arrays: PyTree, item: PyTree) -> Batch:
        rows = _train_rows(arrays, item["example"], item["epoch"])
        if with_partner:
            rows["partner"] = _train_rows(arrays, item["partner_example"], item["partner_epoch"])
        return rows

    return Stream(num_examples, batch_size, _arrays(split, put), items, batch, functools.partial(items, 0))


def eval_stream(split: Split, *, batch_size: int, put: PutFn = jnp.asarray) -> Stream:
    """The rows of a split in order, each once; what the last batch lacks is row 0 under mask 0.

    Args:
      split: N examples.
      batch_size: B, which need not divide N, nor be less than it.
      put: places the two arrays of the split on the device.

    Returns:
      A stream of ceil(N / B) steps (`num_batches`); steps past them are padding throughout.

    Raises:
      UsageError: the batch size is not positive.
    """
    check_batch_size(batch_size, "config.data.eval_batch_size")
    num_examples = len(split.label)

    def items(first_step: int, count: int) -> PyTree:
        row = np.arange(first_step * batch_size, (first_step + count) * batch_size).reshape(count, batch_size)
        inside = row < num_examples
        return {"example": np.where(inside, row, 0).astype(np.int32), "mask": inside.astype(np.float32)}

    return Stream(num_examples, batch_size, _arrays(split, put), items, _eval_batch, functools.partial(items, 0))


def _eval_batch(arrays: PyTree, item: PyTree) -> Batch:  # one function for all streams: programs that call it are, too
    image, label = _gather(arrays, item["example"])
    return Batch(image=image, label=label, mask=item["mask"], example=item["example"])


def check_train_batch(batch_size: int, num_examples: int) -> None:
    """Raises UsageError for a batch larger than the training set, or empty."""
    if batch_size > num_examples:
        raise UsageError(
            f"a batch of {batch_size} is larger than the training set of {num_examples}; "
            f"set config.data.batch_size to {num_examples} or less"
        )
    check_batch_size(batch_size, "config.data.batch_size")


def check_batch_size(batch_size: int, key: str) -> None:
    """Raises UsageError for a batch that `key` makes empty."""
    if batch_size < 1:
        raise UsageError(f"{key} is {batch_size}; set it to 1 or more")


def _arrays(split: Split, put: PutFn) -> PyTree:
    return {"image": put(np.asarray(split.image)), "label": put(split.label)}


def _gather(arrays: PyTree, example: Array) -> tuple[Array, Array]:
    def take(name: str) -> Array:
        return jnp.take(arrays[name], example, axis=0, mode="clip")  # spares the mask of "fill"; all rows are in range

    return take("image"), take("label")


def _train_rows(arrays: PyTree, example: Array, epoch: Array) -> Batch:
    image, label = _gather(arrays, example)
    mask = jnp.ones(label.shape, jnp.float32)
    return Batch(image=image, label=label, mask=mask, example=example, epoch=epoch)
