# SPDX-License-Identifier: Apache-2.0
"""From stored pixels to the network's input: conversion, augmentation, mixing, normalisation."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.augment import make_alternate, make_augment, make_mix, needs_partner
from cnnjax.augment.arithmetic import unfused
from cnnjax.augment.noise import has_noise, make_noise
from cnnjax.errors import UsageError
from cnnjax.protocols.views import MakeView
from cnnjax.types import Array, Batch, Config, PrepareFn

PrepareViewFn = Callable[[Batch, Mapping[str, Array]], Array]

# Streams of the run's key. Any constants do, as long as nothing else folds the same ones into it.
AUGMENT_STREAM = 0x61756721
MIX_STREAM = 0x6D697821
MIRROR_STREAM = 0x6D697272
NOISE_STREAM = 0x6E6F6973


def make_prepare(data: Config, augment: Config, num_classes: int) -> tuple[PrepareFn, PrepareFn]:
    """The preparation of training and of evaluation batches.

    Args:
      data: `config.data`, for `mean` and `std`: one number or one a channel, in units of 0..1.
      augment: `config.augment`.
      num_classes: K.

    Returns:
      (prepare_train, prepare_eval), both `prepare(key, batch) -> batch` with `image` uint8 [B,H,W,C] turned into
      float32, normalised, and `partner` taken out. `key` is the run's, `jax.random.key(config.seed)`.
      prepare_train augments first, by random numbers of (key, epoch, example) alone: the batch must hold both.
      When `augment` mixes, the batch must hold a `partner`, which is augmented just as it is by itself, and
      `label` becomes float32 [B,K]; otherwise it stays int32 [B]. With noise of the input the batch gains `clean`,
      the same images without it. prepare_eval uses no randomness and no noise.

    Raises:
      UsageError: a number of `config.augment`, `mean` or `std` is out of range. When traced: their length is
        wrong, or the images cannot be augmented so.
    """
    mean, std = _numbers(data, "mean"), _numbers(data, "std")
    change, alternate = make_augment(augment, mean), make_alternate(augment)
    mix = make_mix(augment) if needs_partner(augment) else None
    noise = make_noise(augment) if has_noise(augment) else None

    normalise = partial(_normalised, mean=mean, std=std)

    def augmented(key: Array, batch: Batch) -> Array:
        image = _to_float(batch["image"])
        if alternate is not None:
            image = alternate(_example_keys(key, MIRROR_STREAM, batch), _required(batch, "epoch"), image)
        return change(_row_keys(key, AUGMENT_STREAM, batch), image)

    def prepare_train(key: Array, batch: Batch) -> Batch:
        _per_channel("mean", mean, batch["image"])  # its length, before augmentation fills with it
        image, label = augmented(key, batch), batch["label"]
        if mix is not None:
            partner = _required(batch, "partner")
            image, label = mix(
                _row_keys(key, MIX_STREAM, batch),
                image,
                augmented(key, partner),
                jax.nn.one_hot(label, num_classes),
                jax.nn.one_hot(partner["label"], num_classes),
            )
        if noise is None:
            return _with(batch, normalise(image), label)
        noisy = _with(batch, normalise(noise(_row_keys(key, NOISE_STREAM, batch), image)), label)
        return Batch(**{**noisy, "clean": normalise(image)})

    def prepare_eval(key: Array, batch: Batch) -> Batch:
        return _with(batch, normalise(_to_float(batch["image"])), batch["label"])

    return prepare_train, prepare_eval


def make_prepare_view(data: Config, make: MakeView) -> PrepareViewFn:
    """`prepare(batch, row) -> image`: one view of each stored picture, as the network takes it.

    Args:
      data: `config.data`, for `mean` and `std`.
      make: of a `Views`; `row` is a row of its numbers, and the batch must hold `example`.
    """
    mean, std = _numbers(data, "mean"), _numbers(data, "std")

    def prepare(batch: Batch, row: Mapping[str, Array]) -> Array:
        image = make(_to_float(batch["image"]), _required(batch, "example"), row)
        return _normalised(image, mean, std)

    return prepare


def _normalised(image: Array, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    return (image - _per_channel("mean", mean, image)) / _per_channel("std", std, image)


def _to_float(image: Array) -> Array:
    return unfused(image.astype(jnp.float32) / 255)


def _with(batch: Batch, image: Array, label: Array) -> Batch:
    rest = {name: value for name, value in batch.items() if name != "partner"}
    return Batch(**{**rest, "image": image, "label": label})


def _row_keys(key: Array, stream: int, batch: Batch) -> Array:
    """Typed keys [B], each a function of (key, stream, epoch, example)."""
    base = jax.random.fold_in(key, stream)

    def row_key(epoch: Array, example: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(base, epoch), example)

    return jax.vmap(row_key)(_required(batch, "epoch"), _required(batch, "example"))


def _example_keys(key: Array, stream: int, batch: Batch) -> Array:
    """Typed keys [B], each a function of (key, stream, example), whatever the epoch."""
    base = jax.random.fold_in(key, stream)
    return jax.vmap(partial(jax.random.fold_in, base))(_required(batch, "example"))


def _required(batch: Batch, name: str) -> Any:
    if name not in batch:
        raise ValueError(f"a training batch needs {name!r} for what config.augment asks; it has {', '.join(batch)}")
    return batch[name]


def _numbers(data: Config, key: str) -> tuple[float, ...]:
    numbers = tuple(data[key])
    in_range = [0 < number <= 1 if key == "std" else 0 <= number <= 1 for number in numbers]
    if not numbers or not all(in_range):
        least = "above 0, at most 1" if key == "std" else "in 0..1"
        raise UsageError(
            f"config.data.{key} = {numbers} is out of range: pixels are divided by 255, so it must be {least}"
        )
    return numbers


def _per_channel(key: str, numbers: tuple[float, ...], image: Array) -> Array:
    """As an array [1,1,1,C] or [1,1,1,1]."""
    channels = image.shape[-1]
    if len(numbers) not in (1, channels):
        raise UsageError(
            f"config.data.{key} has {len(numbers)} numbers for images of {channels} channel(s); give one, or {channels}"
        )
    return jnp.asarray(numbers, jnp.float32).reshape(1, 1, 1, -1)
