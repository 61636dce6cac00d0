# SPDX-License-Identifier: Apache-2.0
"""A small convolutional autoencoder on the embedded 8x8 digits: no download, under a minute; for a first `latent`.

    python run.py --config=experiments/autoencoder_digits.py --workdir=runs/autoencoder_digits
    python run.py latent --workdir=runs/autoencoder_digits --attribute=3 --against=8

Hardware: 2 cores of an AMD EPYC that other work shared, 24 GiB, no GPU; Python 3.11, jax 0.10.2, float32
Result: test 19.22 dB, SSIM 0.930 (n = 1); 1 min 4 s on cores that other work kept busy
"""

from experiments import default


def get_config() -> default.Config:
    config = default.get_config()
    config.model = {"name": "autoencoder", "latent": 8, "widths": (16, 32), "decoder": "depth_to_space"}
    config.data.source = "digits"
    config.data.batch_size = 64
    config.task.name = "reconstruction"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 5e-3
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 1.0
    config.train.num_epochs = 60.0
    config.train.eval_every_epochs = 10.0
    config.train.checkpoint_every_epochs = 20.0
    return config
