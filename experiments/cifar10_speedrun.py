# SPDX-License-Identifier: Apache-2.0
"""94% on CIFAR-10 in seconds: airbench94 (Jordan 2024, arXiv:2404.00498), on one GPU, and small enough for a CPU.

Published: 94.01% (mean of 1,000 runs) in 3.83 s on an A100, PyTorch, not compiled, compilation and data apart.
Variants: `gpu` (default) the paper's network and recipe in bfloat16; `cpu` the same methods, narrower and shorter.
Deviations: an epoch is 50,000 images, nothing dropped at its end; the paper's 476 steps are kept. bfloat16 for float16.

    python run.py --config=experiments/cifar10_speedrun.py --workdir=runs/speedrun
    python run.py --config=experiments/cifar10_speedrun.py:cpu --workdir=runs/speedrun_cpu

Hardware: `cpu` on 2 quiet cores of an AMD EPYC, 24 GiB; Python 3.11, jax 0.10.2, float32. `gpu` not yet measured
Result: `cpu` test accuracy 83.37 +- 0.25% (n = 3 seeds); steps 73 s, compilation 8 s
"""

from experiments import default


def get_config(variant: str = "gpu") -> default.Config:
    if variant not in ("gpu", "cpu"):
        raise ValueError(f"no variant {variant!r}; there are gpu, cpu")
    config, momentum = default.get_config(), 0.85
    config.model = {"name": "airbench", "widths": (64, 256, 256)}
    config.data.source = "tfds:cifar10"
    config.data.validation_fraction = 0.0  # all 50,000 train; the recipe was chosen long ago
    config.data.batch_size, config.data.eval_batch_size = 1024, 2000
    config.data.mean, config.data.std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    config.augment.update({"mirror": 0.5, "mirror_mode": "alternating", "shift": 2, "fill": "reflect"})
    config.task.label_smoothing = 0.2
    config.eval.protocol, config.eval.views, config.eval.averaging = "tta", "mirror_shift", "logits"
    optimizer = config.optimizer
    optimizer.momentum, optimizer.nesterov = momentum, True
    optimizer.learning_rate = 11.5 / (1 + 1 / (1 - momentum))  # the paper's rate is that of a step's length: 1.5 here
    optimizer.weight_decay, optimizer.decay = 0.0153 / 11.5, "all"
    optimizer.factors = ("*/norm?/bias=64",)
    optimizer.decay_factors = ("*/norm?/bias=0.015625", "stem/kernel=0")  # 1/64: their decay is that of the others
    optimizer.freeze_after = ("stem/bias=3",)
    optimizer.lookahead, optimizer.lookahead_decay, optimizer.lookahead_power = 5, 0.95**5, 3.0
    config.schedule.name, config.schedule.initial_fraction, config.schedule.final_fraction = "polynomial", 0.2, 0.07
    config.train.num_epochs, config.train.num_steps = None, 476
    config.schedule.warmup_epochs, config.schedule.warmup_steps = None, 109  # 23%
    config.train.log_every_steps = 119
    config.train.eval_every_epochs = config.train.checkpoint_every_epochs = 100.0  # at the end only
    config.train.dtype = "bfloat16"
    if variant == "cpu":
        # Whitened patches of 3x3, every second one: maps and work are a quarter. Half the batch: twice the steps.
        config.model.update({"whiten_size": 3, "whiten_stride": 2, "widths": (32, 64, 128), "gelu": "tanh"})
        config.data.batch_size, optimizer.learning_rate = 512, 1.1  # the best of 0.4, 0.75, 1.1, 1.5 and 2.2
        config.train.num_steps, config.schedule.warmup_steps = 391, 90  # 4 epochs
        config.train.log_every_steps, config.train.dtype = 23, "float32"
    return config
