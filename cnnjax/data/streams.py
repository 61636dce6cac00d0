# SPDX-License-Identifier: Apache-2.0
"""Streams over any split: rows of one that lies on the device, or pictures that are decoded on the way."""

import os
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.data import resident
from cnnjax.data.batches import EvalBatches, Part, TrainBatches
from cnnjax.data.loader import Loader
from cnnjax.data.resident import PutFn, check_batch_size, check_train_batch
from cnnjax.data.streamed import Crop, is_streamed, rows_of
from cnnjax.types import Batch, Config, PyTree, Split, Stream

_CALL_BYTES = 2**28  # of streamed pictures that a call of several steps is given


def train_stream(
    config: Config,
    split: Split,
    *,
    batch_size: int | None = None,
    with_partner: bool = False,
    put: PutFn = jnp.asarray,
) -> Stream:
    """Shuffled batches without end, as `resident.train_stream`: of a streamed split the same rows to the same step.

    Args:
      config: of the run; reads seed, data and, of a streamed split, augment.crop_area and crop_aspect.
      split: the training split.
      batch_size: B, in place of `config.data.batch_size`.
      with_partner: whether `batch["partner"]` holds, for each row, the row at the next position of the stream.
      put: places a resident split on the device.

    Raises:
      UsageError: the batch is larger than the set, or does not divide over the processes.
    """
    data, size = config.data, int(batch_size or config.data.batch_size)
    order: Any = {"seed": config.seed, "balance": data.balance, "with_partner": with_partner}
    if not is_streamed(split):
        return resident.train_stream(split, batch_size=size, **order, put=put)
    check_train_batch(size, len(split.label))
    batches = TrainBatches(
        rows_of(split),
        split.label,
        _part(size),
        _threads(data),
        **order,
        skip=data.on_bad_image == "skip",
        ranges=host_crop(config, split),
    )
    loader = Loader(batches, data.workers, data.prefetch)
    return _stream(split, size, loader, _train_batch)


def eval_stream(data: Config, split: Split, *, batch_size: int, put: PutFn = jnp.asarray) -> Stream:
    """The rows of a split in order, each once, as `resident.eval_stream`."""
    if not is_streamed(split):
        return resident.eval_stream(split, batch_size=batch_size, put=put)
    check_batch_size(batch_size, "config.data.eval_batch_size")
    batches = EvalBatches(rows_of(split), split.label, _part(batch_size), _threads(data))
    num_steps = -(-len(split.label) // batch_size)
    return _stream(split, batch_size, Loader(batches, data.workers, data.prefetch, num_steps), _eval_batch)


def host_crop(config: Config, split: Split) -> Crop | None:
    """The random resized crop that is cut on the host, from the whole picture; None: none, or on the device."""
    area, aspect = tuple(config.augment.crop_area), tuple(config.augment.crop_aspect)
    return (area, aspect) if is_streamed(split) and config.data.crop_whole and area != (1, 1) else None


def device_config(config: Config, split: Split) -> Config:
    """`config` for what the device does with batches of `split`: without the crop that is cut on the host already."""
    if host_crop(config, split) is None:
        return config
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.augment.crop_area = (1.0, 1.0)
    return config


def most_steps(stream: Stream, wanted: int) -> int:
    """Steps of one call, `wanted` at most: the pictures of a streamed set wait for it in memory."""
    each = sum(array.nbytes for array in stream.blank(1).values()) if stream.local else 0
    return max(1, min(wanted, _CALL_BYTES // max(each, 1)))


def _stream(split: Split, batch_size: int, loader: Loader, batch: Any) -> Stream:
    return Stream(
        len(split.label),
        batch_size,
        {},
        loader.items,
        batch,
        loader.blank,
        local=True,
        close=loader.close,
        waited=loader.waited,
    )


def _train_batch(arrays: PyTree, item: PyTree) -> Batch:
    del arrays
    own: Any = {name: value for name, value in item.items() if not name.startswith("partner_")}
    partner: Any = {name.removeprefix("partner_"): item[name] for name in item if name.startswith("partner_")}
    if partner:
        own["partner"] = Batch(**partner, mask=item["mask"])
    return Batch(**own)


def _eval_batch(arrays: PyTree, item: PyTree) -> Batch:  # one function for all streams: programs that call it are, too
    del arrays
    return Batch(image=item["image"], label=item["label"], mask=item["mask"], example=item["example"])


def _part(batch_size: int) -> Part:
    """The rows of each batch that this process makes; several take equal shares, which the devices see to."""
    count = batch_size // jax.process_count()
    return Part(batch_size, jax.process_index() * count, count)


def _threads(data: Config) -> int:
    return data.threads or max(1, (os.cpu_count() or 1) // max(1, data.workers))
