# SPDX-License-Identifier: Apache-2.0
"""The lectures' small plain network with dropout on CIFAR-10.

    python run.py --config=experiments/simple_cnn_cifar10.py --workdir=runs/simple_cnn_cifar10

Hardware: 2 cores of an AMD EPYC that other work shared, 24 GiB, no GPU; Python 3.11, jax 0.10.2, float32
Result: test accuracy 79.19% (n = 1); 47 min on cores that other work kept busy
"""

from experiments import default


def get_config() -> default.Config:
    config = default.get_config()
    config.model = {"name": "simple_cnn"}
    config.data.source = "tfds:cifar10"
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)
    config.data.batch_size = 128
    config.augment.mirror = 0.5
    config.augment.shift = 2
    config.augment.fill = "mean"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-3
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 0.5
    config.train.num_epochs = 15.0
    config.train.checkpoint_every_epochs = 2.0
    return config
