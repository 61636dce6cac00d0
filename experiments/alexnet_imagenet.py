# SPDX-License-Identifier: Apache-2.0
"""AlexNet on ImageNet as published (Krizhevsky et al. 2012, section 5); `:one_tower` by torchvision's recipe.

Published: 40.7% top-1 and 18.2% top-5 error, the mean over ten crops; one tower, one crop: 43.5% and 20.9%.
Deviations of the first: crops of 227 pixels, not 224, the size that its 55x55 maps need; they are shifted within the
stored centre crop, so that up to 14 pixels at the border are of the mean colour; the mean is one colour, not a
picture; the rate falls at fixed epochs, where the paper waits for the validation error to stop falling.
Of the second: 16 pixels more or less of the picture take part, since the stored picture is the centre crop.

    python run.py --config=experiments/alexnet_imagenet.py --workdir=runs/alexnet_imagenet

Hardware: not yet run; wants a GPU, and the data prepared by `run.py prepare tfds:imagenet2012`
Result: not yet measured
"""

from experiments import default


def get_config(variant: str = "published") -> default.Config:
    if variant not in ("published", "one_tower"):
        raise ValueError(f"no variant {variant!r}; there are published and one_tower")
    published = variant == "published"
    config = default.get_config()
    config.model = {"name": "alexnet" if published else "alexnet_one_tower"}
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"  # the 50,000 that papers report; the test split has no labels
    config.data.validation_fraction = 0.01
    config.data.image_size = (227, 227) if published else (224, 224)
    config.data.crop_from = 256
    config.data.mean = (0.485, 0.456, 0.406)
    # The paper's inputs are 0..255 less the mean; its initialisation and normalisation constants are for these.
    config.data.std = (1 / 255,) * 3 if published else (0.229, 0.224, 0.225)
    config.data.batch_size = 128 if published else 256
    config.augment.mirror = 0.5
    config.augment.fill = "mean"
    config.augment.shift = (256 - 227) // 2 if published else 0
    config.augment.pca_noise = 0.1 if published else 0.0
    config.augment.crop_area = (1.0, 1.0) if published else (0.08, 1.0)
    config.optimizer.learning_rate = 0.01
    config.optimizer.weight_decay = 5e-4 if published else 1e-4
    config.schedule.name = "step"
    config.schedule.boundaries_epochs = (30.0, 60.0, 80.0) if published else (30.0, 60.0)
    config.train.num_epochs = 90.0
    return config
