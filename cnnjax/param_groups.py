# SPDX-License-Identifier: Apache-2.0
"""Which parameters are trained, from when on and at what rate: `config.freeze`, `unfreeze` and `optimizer.factors`."""

from collections.abc import Mapping
from typing import NamedTuple

from cnnjax.errors import UsageError
from cnnjax.patterns import decide, param_paths, parse_pairs, selected
from cnnjax.types import Config, Params


class Group(NamedTuple):
    """How a parameter is trained.

    Attributes:
      factor: of the learning rate.
      from_epoch: when its training begins, in epochs; None: never, it is frozen.
    """

    factor: float = 1.0
    from_epoch: float | None = 0.0

    @property
    def label(self) -> str:
        """Its name in the optimizer's state."""
        return "frozen" if self.from_epoch is None else f"rate x {self.factor:g} from epoch {self.from_epoch:g}"


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
    rates = parse_pairs(config.optimizer.factors, "config.optimizer.factors", "FACTOR")
    moving = [path for path in paths if from_epoch[path] is not None]
    factors = dict.fromkeys(paths, 1.0)
    for path, number in _decide(rates, moving, "config.optimizer.factors", "of those that are trained").items():
        factors[path] = rates[number][1]
    return {path: Group(factors[path] if path in moving else 1.0, from_epoch[path]) for path in paths}


def _decide(pairs: list[tuple[str, float]], paths: list[str], key: str, among: str) -> dict[str, int]:
    try:
        return decide([pattern for pattern, _ in pairs], paths, key)
    except UsageError as error:
        raise UsageError(str(error).replace("matches no parameter;", f"matches no parameter {among};")) from None


def is_trivial(groups: Groups) -> bool:
    """Whether all parameters are trained alike, from the start."""
    return all(group == Group() for group in groups.values())
