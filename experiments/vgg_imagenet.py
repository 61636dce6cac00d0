# SPDX-License-Identifier: Apache-2.0
"""VGG A, A-LRN, B, C, D or E on ImageNet (Simonyan, Zisserman 2015, section 3.1, training scale 256).

Published, table 3, one scale, top-1 / top-5 error: A 29.6/10.4%, A-LRN 29.7/10.5%, B 28.7/9.9%, C 28.1/9.4%,
D 27.0/8.8%, E 27.3/9.0%, the network applied to the whole picture; here it sees the centre crop.
Deviations: random crops are shifts within the stored centre crop, with up to 16 pixels at the border of the mean
colour; the rate falls at fixed epochs, where the paper waits for the validation accuracy to stop rising; all
are trained from a random start. `--config.model.batch_norm=True` normalises after each convolution.

    python run.py --config=experiments/vgg_imagenet.py:D --workdir=runs/vgg_imagenet_d

Hardware: not yet run; wants a GPU, and the data prepared by `run.py prepare tfds:imagenet2012`
Result: not yet measured
"""

from experiments import default


def get_config(variant: str = "D") -> default.Config:
    if variant not in ("A", "A-LRN", "B", "C", "D", "E"):
        raise ValueError(f"no variant {variant!r}; there are A, A-LRN, B, C, D and E")
    config = default.get_config()
    config.model = {"name": "vgg", "variant": variant}
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"  # the 50,000 that papers report; the test split has no labels
    config.data.validation_fraction = 0.01
    config.data.image_size = (224, 224)
    config.data.crop_from = 256
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (1 / 255,) * 3  # the paper's inputs are 0..255 less the mean
    config.data.batch_size = 256
    config.augment.mirror = 0.5
    config.augment.shift = (256 - 224) // 2
    config.augment.fill = "mean"
    config.augment.pca_noise = 0.1
    config.optimizer.learning_rate = 1e-2
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "step"
    config.schedule.boundaries_epochs = (25.0, 45.0, 60.0)  # three falls, as in the paper
    config.train.num_epochs = 74.0
    return config
