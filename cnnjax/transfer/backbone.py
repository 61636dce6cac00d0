# SPDX-License-Identifier: Apache-2.0
"""A trained network beside another data set: pictures are made as the network knows them."""

from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from cnnjax.config import finish_config, load_config
from cnnjax.data import load_dataset
from cnnjax.errors import UsageError
from cnnjax.experiment import build_model, load_network
from cnnjax.transfer.features import Backbone
from cnnjax.transfer.start import read_origin
from cnnjax.types import Config, Dataset

_PREPARATION = ("mean", "std")


def of_run(workdir: str, checkpoint: str, spec: str | None, overrides: Sequence[str]) -> tuple[Backbone, Dataset]:
    """The network of a run, and the data of the config `spec` (None: the run's own) with `overrides`.

    Pictures get the network's size, colours and normalisation unless the overrides say otherwise; with another source
    all its labels are taken.

    Raises:
      UsageError, RunError: as the parts do.
    """
    network = load_network(workdir, checkpoint)
    height, width, channels = network.info.image_shape
    config: Config = network.config.copy_and_resolve_references()
    given = {override.removeprefix("--config.").partition("=")[0] for override in overrides}
    with config.unlocked():
        if spec is not None:
            config.data = ConfigDict(load_config(spec).data)
        if spec is not None or "data.source" in given:
            config.data.update({key: network.config.data[key] for key in _PREPARATION})
            config.data.image_size, config.data.color = (height, width), "gray" if channels == 1 else "rgb"
            config.data.labels, config.data.train_examples = (), 0
    config = finish_config(config, overrides)
    dataset = load_dataset(config.data)
    num_classes = len(network.info.label_names)
    return Backbone(config, network.model, network.params, network.model_state, num_classes), dataset


def of_config(config: Config) -> tuple[Backbone, Dataset]:
    """The network of `config` with the weights of `config.init_from`, and its data.

    Raises:
      UsageError: `config.init_from` is not set. UsageError, RunError: as the parts do.
    """
    if not config.init_from:
        raise UsageError("no trained network: give --workdir=RUN, or --config=FILE with --config.init_from=WEIGHTS")
    dataset = load_dataset(config.data)
    num_classes = len(dataset.label_names)
    model = build_model(config, num_classes)
    image_shape = dataset.splits["train"].image.shape[1:]
    start = read_origin(config, model, dataset.label_names, image_shape).begin(jax.random.key(config.seed))
    return Backbone(config, model, start.params, start.model_state, num_classes), dataset
