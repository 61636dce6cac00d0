# SPDX-License-Identifier: Apache-2.0
"""What an attribute is: which pictures of a data set have it, and which are the others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnnjax.config import finish_config
from cnnjax.data import load_dataset
from cnnjax.errors import RunError, UsageError, unknown
from cnnjax.experiment import Network
from cnnjax.types import Config, Dataset, Split


class Contrast(NamedTuple):
    """Two kinds of pictures of the training split and of a held-out one.

    Attributes:
      name: of the attribute.
      other: what the pictures without it are called.
      dataset: with the splits `train` and `split`.
      split: the held-out one.
      has: the labels of the pictures that have it,
      lacks: and of those that lack it; pictures of other labels count for neither.
    """

    name: str
    other: str
    dataset: Dataset
    split: str
    has: tuple[int, ...]
    lacks: tuple[int, ...]

    def rows(self, split: str, *, has: bool) -> np.ndarray:
        """The rows [n] of a split that have the attribute, or that lack it."""
        return np.flatnonzero(np.isin(self.dataset.splits[split].label, self.has if has else self.lacks))

    @property
    def held_out(self) -> Split:
        """The held-out split."""
        return self.dataset.splits[self.split]


def load_contrast(network: Network, attribute: str | None, against: str | None, split: str) -> Contrast:
    """The pictures with an attribute, a label of the run's set or a yes-or-no feature of it, and those without.

    Args:
      network: the run's.
      attribute: a label's name, or one that config.data.attribute could have.
      against: the label that is compared with; None: all others.
      split: the held-out one, "test" or "validation".

    Raises:
      UsageError: no attribute, or no such attribute or label.
      RunError: there are no pictures of one of the two kinds, or no such split; or as `load_dataset` does.
    """
    config, labels = network.config, network.info.label_names
    if attribute is None:
        raise UsageError(f"no --attribute given; the set's labels are {', '.join(labels[:12])}")
    if attribute not in labels:
        config, labels = _of_feature(config, attribute, labels), (f"not {attribute}", attribute)
    if against is not None and (against not in labels or against == attribute):
        raise UsageError(unknown("label (--against)", against, [name for name in labels if name != attribute]))
    dataset = load_dataset(config.data, ("train", split))
    if split not in dataset.splits:
        raise RunError(f"{dataset.name} has no {split} split under this config; choose another --split")
    if dataset.label_names != labels or dataset.splits[split].image.shape[1:] != network.info.image_shape:
        raise RunError(f"{dataset.name} is not the set of the run; give it the data it was made for")
    has = (labels.index(attribute),)
    lacks = (labels.index(against),) if against else tuple(i for i in range(len(labels)) if i not in has)
    other = against or (labels[lacks[0]] if len(lacks) == 1 else f"not {attribute}")
    contrast = Contrast(attribute, other, dataset, split, has, lacks)
    for name in ("train", split):
        for kind, title in ((True, attribute), (False, other)):
            if not len(contrast.rows(name, has=kind)):
                raise RunError(
                    f"no {name} picture of {dataset.name} is {title!r}, so there is no difference to take; "
                    "choose another --attribute, or other splits"
                )
    return contrast


def _of_feature(config: Config, attribute: str, labels: Sequence[str]) -> Config:
    """The config with the attribute for its label."""
    from cnnjax.data.tfds import attributes

    source, _, name = config.data.source.partition(":")
    known = attributes(name, config.data) if source == "tfds" else []
    if attribute not in known:
        raise UsageError(unknown("attribute (--attribute)", attribute, [*labels, *known]))
    changed = config.copy_and_resolve_references()
    return finish_config(changed, [f"--config.data.attribute={attribute}", "--config.data.labels=()"])
