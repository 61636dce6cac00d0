# SPDX-License-Identifier: Apache-2.0
"""Residual networks of 20 to 110 layers on CIFAR-10 (He et al. 2015, section 4.2), shortcut A.

Published test error, table 6: 20 8.75%, 32 7.51%, 44 7.17%, 56 6.97%, 110 6.43% (6.61 ± 0.16% over 5 runs).
Variants are the depths: `20` (default), `32`, `44`, `56`, `110`.
Deviations: the mean is one number a channel, not one a pixel, and pixels are divided by a standard deviation too; 110
warms up linearly over 400 steps, the paper at 0.01 until the training error is below 80% (about 400 steps), and loops
over equal blocks (`scan`), which compiles in a third of the time.

    python run.py --config=experiments/resnet_cifar10.py:20 --workdir=runs/resnet20_cifar10

Hardware: not yet measured
Result: not yet measured
"""

from experiments import default

DEPTHS = ("20", "32", "44", "56", "110")


def get_config(variant: str = "20") -> default.Config:
    if variant not in DEPTHS:
        raise ValueError(f"no variant {variant!r}; there are {', '.join(DEPTHS)}")
    config = default.get_config()
    config.model = {"name": "resnet_cifar", "depth": int(variant), "shortcut": "A"}
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
    if variant == "110":
        config.model["scan"] = True
        config.schedule.warmup_epochs, config.schedule.warmup_steps = None, 400
    config.train.num_epochs, config.train.num_steps = None, 64_000
    config.train.checkpoint_every_epochs = 5.0
    return config
