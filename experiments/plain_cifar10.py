# SPDX-License-Identifier: Apache-2.0
"""Plain networks of 20 and 56 layers on CIFAR-10: residual networks without skips (He et al. 2015, section 4.2).

Published, figure 6 (left): the deeper plain network has the higher training error, and the higher test error.
Variants: `20` (default), `56`. Everything else, deviations included, is as in `resnet_cifar10.py`.

    python run.py --config=experiments/plain_cifar10.py:56 --workdir=runs/plain56_cifar10

Without BatchNorm, which keeps the gradient alive at these depths: `--config.model.batch_norm=False`.

Hardware: not yet measured
Result: not yet measured
"""

from experiments import default

DEPTHS = ("20", "56")


def get_config(variant: str = "20") -> default.Config:
    if variant not in DEPTHS:
        raise ValueError(f"no variant {variant!r}; there are {', '.join(DEPTHS)}")
    config = default.get_config()
    config.model = {"name": "resnet_cifar", "depth": int(variant), "skip": False, "batch_norm": True}
    config.data.source = "tfds:cifar10"
    config.data.validation_fraction = 0.1  # 45,000 and 5,000
    config.data.batch_size = 128
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)
    config.augment.mirror = 0.5
    config.augment.shift = 4
    config.augment.fill = "mean"  # the paper pads after the mean is taken off
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay = "all"
    config.schedule.name = "step"
    config.schedule.boundaries_epochs, config.schedule.boundaries_steps = None, (32_000, 48_000)
    config.train.num_epochs, config.train.num_steps = None, 64_000
    config.train.checkpoint_every_epochs = 5.0
    return config
