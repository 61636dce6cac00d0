# SPDX-License-Identifier: Apache-2.0
"""What depth does to a plain network, and what skips do about it, on a budget for a CPU.

Six networks of the CIFAR family of He et al. 2015 (section 4.2) on CIFAR-10 at 16x16 pixels, 600 steps each: plain
and residual, of 20 and 56 layers, and the plain ones also without BatchNorm. Then one picture of all runs:

    python run.py --config=experiments/depth_cifar10.py:plain56 --workdir=runs/depth/plain56
    python run.py gradients runs/depth/* --out=docs/depth.png

Hardware: 2 cores of an AMD EPYC that other work shared, 24 GiB, no GPU; Python 3.11, jax 0.10.2, float32
Result: test accuracy bare 10.00 and 10.00%, plain 47.62 and 21.05%, resnet 53.16 and 42.63% (20 and 56 layers; n = 1)
"""

from experiments import default

VARIANTS = {
    f"{kind}{depth}": {"name": "resnet_cifar", "depth": depth, "skip": kind == "resnet", "batch_norm": kind != "bare"}
    for kind in ("bare", "plain", "resnet")
    for depth in (20, 56)
}


def get_config(variant: str = "resnet20") -> default.Config:
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}; there are {', '.join(VARIANTS)}")
    config = default.get_config()
    config.model = VARIANTS[variant]
    config.data.source = "tfds:cifar10"
    config.data.image_size = (16, 16)
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)
    config.data.batch_size = 128
    config.augment.mirror = 0.5
    config.augment.shift = 2
    config.augment.fill = "mean"
    config.optimizer.learning_rate = 0.1
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "cosine"
    config.train.num_steps, config.train.num_epochs = 600, None
    config.train.eval_every_steps, config.train.eval_every_epochs = 200, None
    config.train.checkpoint_every_steps, config.train.checkpoint_every_epochs = 200, None
    config.train.log_every_steps = 10
    return config
