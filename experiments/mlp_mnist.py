# SPDX-License-Identifier: Apache-2.0
"""The lectures' multilayer perceptron, 784-800-400-10 (952,410 parameters), on MNIST.

Published, other sizes without distortions: 300 hidden 4.7% error, 300-100 3.05%, 500-150 2.95% (LeCun et al. 1998).
What this adds to them: ReLU, dropout and Adam.

    python run.py --config=experiments/mlp_mnist.py --workdir=runs/mlp_mnist

Hardware: 2 cores of an AMD EPYC that other work shared, 24 GiB, no GPU; Python 3.11, jax 0.10.2, float32
Result: test accuracy 98.59 ± 0.03% (n = 3 seeds), error 1.41%; 1 min 39 s to 2 min 07 s
"""

from experiments import default


def get_config() -> default.Config:
    config = default.get_config()
    config.model = {"name": "mlp", "hidden": (800, 400), "dropout_rate": 0.3}
    config.data.source = "tfds:mnist"
    config.data.batch_size = 128
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 0.5
    config.train.num_epochs = 15.0
    config.train.checkpoint_every_epochs = 5.0
    config.train.log_every_steps = 100
    return config
