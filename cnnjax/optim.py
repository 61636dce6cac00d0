# SPDX-License-Identifier: Apache-2.0
"""Optimizers and learning-rate schedules of optax, chosen by `config.optimizer` and `config.schedule`."""

import math
from collections.abc import Callable, Collection, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from cnnjax.errors import UsageError, unknown
from cnnjax.param_groups import Group, Groups, is_trivial
from cnnjax.patterns import path_string
from cnnjax.types import Config, PyTree


def duration(section: Config, name: str, steps_per_epoch: float) -> int:
    """`section.{name}_epochs` or `section.{name}_steps`, whichever is set, in whole steps (rounded up)."""
    steps: Any = section[f"{name}_steps"]
    epochs: Any = section[f"{name}_epochs"]
    return epochs_to_steps(epochs, steps_per_epoch) if steps is None else steps


def epochs_to_steps(epochs: float, steps_per_epoch: float) -> int:
    """The first step at which `epochs` are complete."""
    return math.ceil(round(epochs * steps_per_epoch, 6))  # round: 3 epochs of 1/3 step are 1 step, not 2


def make_schedule(schedule: Config, *, peak: float, num_steps: int, steps_per_epoch: float) -> optax.Schedule:
    """Learning rate by step: a linear warm-up to `peak`, then the named shape until `num_steps`.

    `one_cycle` (Smith 2018, arXiv:1803.09820) rises on a cosine for the warm-up (30% of the run when none is
    given) from peak / 25, and falls to `final_fraction` of the peak.

    Raises:
      UsageError: an unknown name, or a warm-up as long as the run.
    """
    warmup = duration(schedule, "warmup", steps_per_epoch)
    if warmup >= num_steps and warmup > 0:
        raise UsageError(
            f"config.schedule.warmup lasts {warmup} steps, but the run has only {num_steps}; set warmup_steps lower"
        )
    rest = num_steps - warmup
    if schedule.name == "one_cycle":
        rise = warmup / num_steps or 0.3
        fall = 25 / max(schedule.final_fraction * 25, 1e-4)  # optax divides the first rate, peak / 25, by this
        return optax.cosine_onecycle_schedule(num_steps, peak, rise, 25, fall / 25)
    if schedule.name == "constant":
        shape = optax.constant_schedule(peak)
    elif schedule.name == "step":
        if schedule.boundaries_steps is None:
            boundaries = [epochs_to_steps(epochs, steps_per_epoch) for epochs in schedule.boundaries_epochs]
        else:
            boundaries = list(schedule.boundaries_steps)
        shape = optax.piecewise_constant_schedule(peak, {at - warmup: schedule.factor for at in boundaries})
    elif schedule.name == "cosine":
        shape = optax.cosine_decay_schedule(peak, rest, alpha=schedule.final_fraction)
    elif schedule.name == "polynomial":
        shape = optax.polynomial_schedule(peak, schedule.final_fraction * peak, schedule.power, rest)
    else:
        names = ("constant", "step", "cosine", "one_cycle", "polynomial")
        raise UsageError(unknown("config.schedule.name", schedule.name, names))
    if not warmup:
        return shape
    return optax.join_schedules(
        [optax.linear_schedule(schedule.initial_fraction * peak, peak, warmup), shape], [warmup]
    )


def make_optimizer(
    optimizer: Config,
    schedule: optax.Schedule,
    groups: Groups | None = None,
    *,
    steps_per_epoch: float = 1.0,
    first_step: int = 0,
    new: Collection[str] = (),
) -> optax.GradientTransformation:
    """Clipping, then the regularisation terms' gradients, then the named rule; the update is ready to be added.

    Weight decay and L1 act on kernels only (arrays of two and more axes), or on all parameters, as
    `config.optimizer.decay` says: scales and biases are few, and shrinking them does not regularise.

    Parameters of one group share a rule with its own learning rate and decay. A frozen one has no state; one whose
    training begins later keeps its first state until then, one whose training ends gets updates of 0. The state has
    the same arrays whatever `first_step` is.

    Args:
      optimizer: config.optimizer.
      schedule: learning rate by step of the run.
      groups: of each parameter, by path (`param_groups.param_groups`); None: all alike.
      steps_per_epoch: to know when the training of a group begins.
      first_step: of the steps that this optimizer takes; groups that begin after it stand still.
      new: paths of the parameters that have no trained value to start from, for L2-SP; read by `init` alone.

    Raises:
      UsageError: an unknown name, or L2-SP beside weight decay.
    """
    if optimizer.name not in OPTIMIZERS:
        raise UsageError(unknown("config.optimizer.name", optimizer.name, OPTIMIZERS))
    if is_on(optimizer.l2_sp) and is_on(optimizer.weight_decay):
        raise UsageError(
            "config.optimizer.l2_sp pulls to the start and config.optimizer.weight_decay to 0: set one of them to 0 "
            "(l2_sp_new decays the new layers)"
        )
    decayed = _is_kernel if optimizer.decay == "kernels" else None
    chain = [optax.clip_by_global_norm(optimizer.clip_norm)] if is_on(optimizer.clip_norm) else []

    def rule(rate: optax.Schedule, decay: float = 1.0) -> list[optax.GradientTransformation]:
        own, terms = optimizer.copy_and_resolve_references(), []
        with own.unlocked():
            own.weight_decay, own.l1 = decay * optimizer.weight_decay, decay * optimizer.l1
        if is_on(own.l1):
            terms.append(_masked(_add_l1(own.l1), decayed))
        if is_on(own.l2_sp):
            terms.append(_masked(_add_l2_sp(own.l2_sp, own.l2_sp_new, new), decayed))
        if is_on(own.weight_decay) and own.name not in DECOUPLED:
            terms.append(optax.add_decayed_weights(own.weight_decay, decayed))
        return [*terms, OPTIMIZERS[own.name](own, rate, decayed)]

    if groups is None or is_trivial(groups):
        return optax.chain(*chain, *rule(schedule))

    def train(group: Group) -> optax.GradientTransformation:
        if group.from_epoch is None:
            return optax.set_to_zero()
        start = epochs_to_steps(group.from_epoch, steps_per_epoch)
        rules = rule(lambda count: group.factor * schedule(count + start), group.decay)
        if group.until_epoch is not None:
            stop = epochs_to_steps(group.until_epoch, steps_per_epoch) - start
            rules.append(optax.scale_by_schedule(lambda count: jnp.where(jnp.asarray(count) < stop, 1.0, 0.0)))
        tx = optax.chain(*rules)
        return tx if start <= first_step else _standing(tx)

    def labels(params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(lambda path, _: groups[path_string(path)].label, params)

    by_label: dict[Hashable, optax.GradientTransformation] = {
        group.label: train(group) for group in sorted(set(groups.values()), key=lambda group: group.label)
    }
    return optax.chain(*chain, optax.partition(by_label, labels))


def training_starts(groups: Groups, *, steps_per_epoch: float, num_steps: int) -> list[int]:
    """The steps before which the training of a group begins, ascending, the first one 0.

    Raises:
      UsageError: one is not before the run's end.
    """
    epochs = {group.from_epoch for group in groups.values() if group.from_epoch is not None}
    for epoch in epochs:
        if (step := epochs_to_steps(epoch, steps_per_epoch)) >= num_steps:
            raise UsageError(
                f"config.unfreeze begins to train at epoch {epoch:g} (step {step}), but the run ends at step "
                f"{num_steps}; set an earlier epoch, or config.train.num_epochs higher"
            )
    return sorted({epochs_to_steps(epoch, steps_per_epoch) for epoch in epochs})


def frozen_at(groups: Groups, step: int, *, steps_per_epoch: float) -> frozenset[str]:
    """The paths of the parameters that step `step` does not train."""

    def moves(group: Group) -> bool:
        return group.from_epoch is not None and epochs_to_steps(group.from_epoch, steps_per_epoch) <= step

    return frozenset(path for path, group in groups.items() if not moves(group))


def is_on(value: Any) -> bool:
    """Whether a number is not 0. A traced one counts as on: who trains several networks in one step keeps 0 apart."""
    return isinstance(value, Tracer) or bool(value)


def _or_none(value: Any) -> Any:
    return value if is_on(value) else None


Mask = Callable[[PyTree], PyTree] | None
DECOUPLED = ("adamw", "lion")

OPTIMIZERS: dict[str, Callable[[Config, optax.Schedule, Mask], optax.GradientTransformation]] = {
    "sgd": lambda c, rate, _: optax.sgd(rate, _or_none(c.momentum), c.nesterov),
    "adam": lambda c, rate, _: optax.adam(rate, c.beta1, c.beta2, c.epsilon),
    "adamw": lambda c, rate, mask: optax.adamw(
        rate, c.beta1, c.beta2, c.epsilon, weight_decay=c.weight_decay, mask=mask
    ),
    "rmsprop": lambda c, rate, _: optax.rmsprop(rate, c.beta2, c.epsilon, momentum=_or_none(c.momentum)),
    "lars": lambda c, rate, mask: optax.lars(
        rate, trust_ratio_mask=mask or True, momentum=c.momentum, nesterov=c.nesterov
    ),
    "lion": lambda c, rate, mask: optax.lion(rate, c.beta1, c.beta2, weight_decay=c.weight_decay, mask=mask),
}


def _is_kernel(params: PyTree) -> PyTree:
    return jax.tree.map(lambda p: p.ndim >= 2, params)


def _masked(transformation: optax.GradientTransformation, mask: Mask) -> optax.GradientTransformation:
    return transformation if mask is None else optax.masked(transformation, mask)


class L2SP(NamedTuple):
    """State of L2-SP: where each parameter is pulled to, and how strongly (a number each)."""

    start: PyTree
    strength: PyTree


def _add_l2_sp(alpha: float, beta: float, new: Collection[str]) -> optax.GradientTransformation:
    """Adds the gradient of alpha / 2 |w - start|^2, of beta / 2 |w|^2 for the new parameters.

    The state holds all that it needs, so that a resumed run need not know what its start was.

    Reference: Li, Grandvalet and Davoine 2018, arXiv:1802.01483, equation 4.
    """

    def init(params: PyTree) -> L2SP:
        def pick(of_new: Callable[[Any], Any], of_old: Callable[[Any], Any]) -> PyTree:
            return jax.tree_util.tree_map_with_path(
                lambda path, p: of_new(p) if path_string(path) in new else of_old(p), params
            )

        strength = pick(lambda _: jnp.float32(beta), lambda _: jnp.float32(alpha))
        return L2SP(pick(jnp.zeros_like, jnp.copy), strength)

    def update(updates: PyTree, state: L2SP, params: PyTree = None) -> tuple[PyTree, L2SP]:
        pulled = jax.tree.map(lambda g, p, w, s: g + s * (p - w), updates, params, state.start, state.strength)
        return pulled, state

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _standing(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Has the state of `tx` and changes nothing."""
    return optax.GradientTransformation(
        tx.init, lambda updates, state, params=None: (optax.tree.zeros_like(updates), state)
    )


def _add_l1(l1: float) -> optax.GradientTransformation:
    """Adds the gradient of l1 * |w|."""
    return optax.stateless(lambda updates, params: jax.tree.map(lambda g, p: g + l1 * jnp.sign(p), updates, params))
