# SPDX-License-Identifier: Apache-2.0
r"""Cats and dogs from a trained network (Kaggle's "Dogs vs. Cats", 2013-14; its winner, Sermanet: 98.914%).

From ImageNet weights at 224x224: the new output at the full rate, layers that come trained at a tenth, the stem fixed.
  `tfds` (default): tfds's cats_vs_dogs (23,262 pictures, of which 10% are the test set); `folder`: PATH/LABEL/* or
  PATH/SPLIT/LABEL/*; both start from the Hub's ResNet-18 (timm/resnet18.a1_in1k, normalised as there).
  `cifar`: 32x32 pictures of a folder, from a `simple_cnn` trained on CIFAR-10 (what `run.py transfer` compares).

    python run.py --config=experiments/cats_vs_dogs.py --workdir=runs/cats_vs_dogs
    python run.py --config=experiments/cats_vs_dogs.py:folder --workdir=runs/mine --config.data.source=folder:PATH
    python run.py --config=experiments/cats_vs_dogs.py:cifar --workdir=runs/small \
        --config.init_from=runs/simple_cnn_cifar10 --config.data.source=folder:PATH

Hardware: 2 cores of an AMD EPYC that other work shared, no GPU; Python 3.11, jax 0.10.2, float32
Result: `cifar` 81.50% of 200 pictures (n = 1), 26 s, from a CIFAR-10 network of 79.19%; the others not yet measured
"""

from experiments import default


def get_config(variant: str = "tfds") -> default.Config:
    if variant not in ("tfds", "folder", "cifar"):
        raise ValueError(f"no variant {variant!r}; there are tfds, folder, cifar")
    config = default.get_config()
    config.data.source = "tfds:cats_vs_dogs" if variant == "tfds" else "folder:pictures"
    config.data.color, config.data.test_fraction = "rgb", 0.1
    config.data.batch_size = 32
    config.augment.mirror = 0.5
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 0.01
    config.schedule.name = "cosine"
    if variant == "cifar":
        config.model = {"name": "simple_cnn"}
        config.data.image_size = (32, 32)
        config.data.mean, config.data.std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
        config.augment.shift = 2
        config.optimizer.learning_rate, config.train.num_epochs = 2e-3, 8.0
        return config
    config.model = {"name": "resnet", "depth": 18}
    config.init_from = "hf:timm/resnet18.a1_in1k"
    config.freeze = ("stem*",)
    config.optimizer.factors = ("*=0.1", "output=1")
    config.data.image_size, config.data.crop_from = (224, 224), 256
    config.data.mean, config.data.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    config.augment.crop_area = (0.35, 1.0)
    config.optimizer.learning_rate = 1e-3
    config.schedule.warmup_epochs = 0.5
    config.train.num_epochs = 10.0
    return config
