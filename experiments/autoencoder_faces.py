# SPDX-License-Identifier: Apache-2.0
"""A convolutional autoencoder on faces, 64x64 gray, for the smile vector: CelebA, or a folder of faces by expression.

    python run.py --config=experiments/autoencoder_faces.py --workdir=runs/autoencoder_faces
    python run.py latent --workdir=runs/autoencoder_faces --attribute=Smiling

A latent of 32 numbers. Of CelebA any of the 40 attributes may be the label (config.data.attribute), and any may be
asked of `latent`. The result is of the SMILEsmileD faces (9,464 for training, 1,314 held out) with
--config.data.source=folder:PATH; CelebA is not yet measured. docs/latent.md tells more.

Hardware: 2 cores of an AMD EPYC that other work shared, 24 GiB, no GPU; Python 3.11, jax 0.10.2, float32
Result: test 24.01 dB, SSIM 0.676 (n = 1); 34 min on cores that other work kept busy
"""

from experiments import default


def get_config() -> default.Config:
    config = default.get_config()
    config.model = {"name": "autoencoder", "latent": 32, "widths": (16, 32, 64, 128), "decoder": "depth_to_space"}
    config.data.source = "tfds:celeb_a"
    config.data.attribute = "Smiling"
    config.data.color = "gray"
    config.data.image_size = (64, 64)
    config.data.batch_size = 64
    config.augment.mirror = 0.5
    config.task.name = "reconstruction"
    config.task.ssim_weight = 0.003
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-3
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 0.5
    config.train.num_epochs = 36.0
    return config
