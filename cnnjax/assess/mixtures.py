# SPDX-License-Identifier: Apache-2.0
"""Networks made by averaging weights: the running average of a run, its last checkpoints, and soups of several runs."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

from cnnjax.assess.networks import Member, Scorer
from cnnjax.augment import needs_partner
from cnnjax.checkpoint import Checkpoints, compare
from cnnjax.data.streams import device_config, train_stream
from cnnjax.errors import RunError, UsageError
from cnnjax.experiment import Network, load_network
from cnnjax.preprocess import make_prepare
from cnnjax.protocols.averages import greedy_soup, mean_tree, reestimate
from cnnjax.types import Batch, ModelState, Params

logger = logging.getLogger(__name__)

KINDS = ("ema", "last", "soup", "greedy")
STATISTICS_IMAGES = 10_000
"""Training images that BatchNorm's statistics are taken anew from."""


class Mixture(NamedTuple):
    """A network made of several; `parts` tells of which."""

    name: str
    parts: tuple[str, ...]
    network: Network
    weights: tuple[Params, ModelState]


def make_mixtures(kinds: Sequence[str], members: Sequence[Member], scorer: Scorer, last: int) -> list[Mixture]:
    """The mixtures asked for, in order.

    Args:
      kinds: of KINDS. "ema" and "last" are of one run, "soup" (the mean of all) and "greedy" of several.
      members: the networks.
      scorer: reads the validation split for "greedy".
      last: checkpoints that "last" averages.

    Raises:
      UsageError: a kind does not suit the number of runs, or the networks differ in shape.
      RunError: the run keeps no running average, or fewer checkpoints, or has no validation split.
    """
    for kind in kinds:
        several = kind in ("soup", "greedy")
        if several != (len(members) > 1):
            need = "several runs: give --workdir more than once" if several else "one run: give one --workdir"
            raise UsageError(f"--average={kind} is of {need}")
    made: list[Mixture] = []
    for kind in kinds:
        if kind == "ema":
            made.append(_running_average(members[0]))
        elif kind == "last":
            made.append(_last(members[0], last, scorer))
        else:
            _check_shapes(members)
            chosen = tuple(range(len(members))) if kind == "soup" else _greedy(members, scorer)
            name = "uniform soup" if kind == "soup" else "greedy soup"
            made.append(_mixed(name, [members[i].name for i in chosen], [members[i].network for i in chosen], scorer))
    return made


def _running_average(member: Member) -> Mixture:
    """The weights without the average beside it: what is evaluated of such a run is the average already."""
    if not member.network.config.train.ema_decay:
        raise RunError(f"{member.name} keeps no running average: it was trained with config.train.ema_decay=0")
    plain = load_network(str(member.workdir), str(member.network.step), ["--config.train.ema_decay=0"])
    return Mixture("without the running average", (member.name,), member.network, (plain.params, plain.model_state))


def _last(member: Member, count: int, scorer: Scorer) -> Mixture:
    with contextlib.closing(Checkpoints(member.workdir)) as checkpoints:
        steps = checkpoints.steps()[-count:]
    if len(steps) < count:
        raise RunError(
            f"{member.name} keeps {len(steps)} checkpoints, fewer than --last={count}; train with "
            f"config.train.keep_checkpoints={count} or more"
        )
    networks = [load_network(str(member.workdir), str(step)) for step in steps]
    networks = [network._replace(config=member.network.config) for network in networks]
    return _mixed(f"mean of the last {count} checkpoints", [f"step {step}" for step in steps], networks, scorer)


def _greedy(members: Sequence[Member], scorer: Scorer) -> tuple[int, ...]:
    first = members[0].network

    def accuracy(weights: tuple[Params, ModelState] | None, network: Network = first) -> float:
        logits = scorer.logits(network, "validation", weights=weights)
        return float((logits.argmax(axis=1) == scorer.split(network, "validation").label).mean())

    def score(chosen: tuple[int, ...]) -> float:
        return accuracy(_weights([members[i].network for i in chosen], scorer))

    return greedy_soup(score, [accuracy(None, member.network) for member in members])


def _mixed(name: str, parts: Sequence[str], networks: Sequence[Network], scorer: Scorer) -> Mixture:
    return Mixture(name, tuple(parts), networks[0], _weights(networks, scorer))


def _weights(networks: Sequence[Network], scorer: Scorer) -> tuple[Params, ModelState]:
    params = mean_tree([network.params for network in networks])
    state = mean_tree([network.model_state for network in networks])
    if len(networks) == 1 or not jax.tree.leaves(state):
        return params, state
    first = networks[0]
    key = jax.random.key(first.config.seed)
    return params, reestimate(first.model, params, state, _training_batches(first, scorer), key)


def _training_batches(network: Network, scorer: Scorer) -> Iterator[Batch]:
    """Batches as the network was trained on, about STATISTICS_IMAGES images."""
    config, split = network.config, scorer.split(network, "train")
    size = min(config.data.batch_size, len(split.label))
    mixes = needs_partner(config.augment)
    stream = train_stream(config, split, batch_size=size, with_partner=mixes)
    prepare, _ = make_prepare(config.data, device_config(config, split).augment, len(network.info.label_names))
    ready = jax.jit(lambda arrays, item: prepare(jax.random.key(config.seed), stream.batch(arrays, item)))
    for step in range(-(-min(STATISTICS_IMAGES, len(split.label)) // size)):
        item = jax.tree.map(lambda x: x[0], stream.items(step, 1))
        yield ready(stream.arrays, item)


def _check_shapes(members: Sequence[Member]) -> None:
    first = members[0]
    for other in members[1:]:
        differences = compare(first.network.params, other.network.params)
        if differences:
            path, theirs, ours = differences[0]
            raise UsageError(
                f"weights of {first.name} and {other.name} cannot be averaged: {path} is {ours} in the one and "
                f"{theirs} in the other; average networks of one shape"
            )
