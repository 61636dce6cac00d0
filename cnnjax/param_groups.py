# SPDX-License-Identifier: Apache-2.0
"""Which parameters are trained, from when to when, at what rate and with how much decay.

`config.freeze`, `config.unfreeze`, and `factors`, `decay_factors` and `freeze_after` of `config.optimizer`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cnnjax.errors import UsageError
from cnnjax.patterns import decide, param_paths, parse_pairs, selected
from cnnjax.types import Config, Params


class Group(NamedTuple):
    """How a parameter is trained.

    Attributes:
      factor: of the learning rate.
      from_epoch: when its training begins, in epochs; None: never, it is frozen.
      decay: of weight decay and L1.
      until_epoch: when its training ends; None: with the run.
    """

    factor: float = 1.0
    from_epoch: float | None = 0.0
    decay: float = 1.0
    until_epoch: float | None = None

    @property
    def label(self) -> str:
        """Its name in the optimizer's state."""
        if self.from_epoch is None:
            return "frozen"
        label = f"rate x {self.factor:g} from epoch {self.from_epoch:g}"
        label += "" if self.until_epoch is None else f" to {self.until_epoch:g}"
        return label if self.decay == 1 else f"{label}, decay x {self.decay:g}"


Groups = Mapping[str, Group]
"""By the parameter's path (`patterns.param_paths`)."""


def param_groups(config: Config, params: Params) -> dict[str, Group]:
    """The group of every parameter.

    Args:
      config: reads freeze, unfreeze and optimizer.factors.
      params: arrays, or their shapes.

    Raises:
      UsageError: a pattern is malformed, matches nothing, or is contradicted by another; or nothing is left to train.
    """
    paths = param_paths(params)
    from_epoch: dict[str, float | None] = dict.fromkeys(paths, 0.0)
    frozen = selected(config.freeze, paths, "config.freeze")
    from_epoch |= dict.fromkeys(frozen)
    later = parse_pairs(config.unfreeze, "config.unfreeze", "EPOCH")
    if later and not frozen:
        raise UsageError("config.unfreeze is set, but config.freeze freezes nothing; set config.freeze")
    for path, number in _decide(later, frozen, "config.unfreeze", "of those that config.freeze freezes").items():
        from_epoch[path] = later[number][1]
    if 0.0 not in from_epoch.values():
        first = min((epoch for epoch in from_epoch.values() if epoch is not None), default=None)
        when = "" if first is None else f" before epoch {first:g}"
        raise UsageError(
            f"config.freeze freezes all {len(paths)} parameters: there is nothing to train{when}; leave the output "
            "out, as in config.freeze=\"('*', '!output')\""
        )
    moving = [path for path in paths if from_epoch[path] is not None]
    factors = _numbers(config.optimizer.factors, moving, "config.optimizer.factors", "FACTOR")
    decays = _numbers(config.optimizer.decay_factors, moving, "config.optimizer.decay_factors", "FACTOR")
    until = _numbers(config.optimizer.freeze_after, moving, "config.optimizer.freeze_after", "EPOCH")
    groups = dict.fromkeys(paths, Group(from_epoch=None))
    for path in moving:
        groups[path] = Group(factors.get(path, 1.0), from_epoch[path], decays.get(path, 1.0), until.get(path))
        if path in until and until[path] <= (from_epoch[path] or 0.0):
            raise UsageError(
                f"config.optimizer.freeze_after freezes {path} at epoch {until[path]:g}, before it is trained at all; "
                "name it in config.freeze instead"
            )
    return groups


def _numbers(entries: Sequence[str], paths: list[str], key: str, what: str) -> dict[str, float]:
    """The number of each path that an entry "PATTERN=NUMBER" matches."""
    pairs = parse_pairs(entries, key, what)
    return {path: pairs[i][1] for path, i in _decide(pairs, paths, key, "of those that are trained").items()}


def _decide(pairs: list[tuple[str, float]], paths: list[str], key: str, among: str) -> dict[str, int]:
    try:
        return decide([pattern for pattern, _ in pairs], paths, key)
    except UsageError as error:
        raise UsageError(str(error).replace("matches no parameter;", f"matches no parameter {among};")) from None


def is_trivial(groups: Groups) -> bool:
    """Whether all parameters are trained alike, from the start."""
    return all(group == Group() for group in groups.values())
