# SPDX-License-Identifier: Apache-2.0
"""Residual networks of 18 to 152 layers on ImageNet 2012 (He et al. 2015, sections 3.4 and 4.1).

Published, table 3, top-1 / top-5 error of ten crops: 18 27.88% / -, 34-B 24.52 / 7.46%, 50 22.85 / 6.71%,
101 21.75 / 6.05%, 152 21.43 / 5.71%. Variants are the depths: `50` (default), `18`, `34`, `101`, `152`.
Deviations: training crops are 8 to 100% of the picture at an aspect of 3/4 to 4/3 (Szegedy et al. 2015), of the whole
one as the set is streamed, and evaluation takes the centre 224 pixels of a short side of 256; the paper trains on 224
pixels of a short side drawn from 256 to 480 and takes ten crops. The rate falls at epochs 30 and 60, the paper's when
the error stops falling (60 x 10^4 steps at most). Stride in the 3x3 (v1.5), the paper's in the 1x1
(`--config.model.version=v1`). The mean is one number a channel, not one a pixel, and pixels are divided by a standard
deviation too.

    python run.py --config=experiments/resnet_imagenet.py:50 --workdir=runs/resnet50_imagenet

From tfds:imagenet2012, or with --config.data.source= tfds:imagenette, pack:DIR or folder:PATH (docs/streaming.md).

Hardware: not yet measured
Result: not yet measured
"""

from experiments import default

DEPTHS = ("18", "34", "50", "101", "152")


def get_config(variant: str = "50") -> default.Config:
    if variant not in DEPTHS:
        raise ValueError(f"no variant {variant!r}; there are {', '.join(DEPTHS)}")
    config = default.get_config()
    config.model = {"name": "resnet", "depth": int(variant), "version": "v1.5"}
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"  # the 50,000 that papers report; the test split has no labels
    config.data.validation_fraction = 0.01
    config.data.image_size = (224, 224)
    config.data.crop_from = 256
    config.data.batch_size = 256
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.augment.mirror = 0.5
    config.augment.crop_area = (0.08, 1.0)
    config.augment.pca_noise = 0.1
    config.optimizer.learning_rate = 0.1
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay = "all"
    config.schedule.name = "step"
    config.schedule.boundaries_epochs = (30.0, 60.0)
    config.train.num_epochs = 90.0
    return config
