# SPDX-License-Identifier: Apache-2.0
"""VGG (Simonyan, Zisserman 2015, "Very deep convolutional networks for large-scale image recognition", table 1).

Input 224x224x3; another size works from 32x32 on: the last maps are averaged to 7x7, as in torchvision.
Parameters with 1,000 classes: A and A-LRN 132,863,336, B 133,047,848, C 133,638,952, D 138,357,544, E 143,667,240.
Multiply-adds: A 7.609e9, B 11.308e9, C 11.771e9, D 15.470e9, E 19.632e9.
As in the paper: 3x3 convolutions with padding 1 (C also 1x1), each with ReLU, 2x2 max pooling after each stage,
dropout after both hidden dense layers. Batch normalisation, later than the paper, comes between a convolution,
which keeps its bias as in torchvision, and its ReLU.
Initialisation: Glorot and Bengio 2010, uniform, which the paper found to work without pre-training (section 3.1);
its own, normal with variance 0.01 after pre-training A, does not train the deep ones from scratch. Biases 0.
"""

import flax.linen as nn

from cnnjax.errors import UsageError, unknown
from cnnjax.layers import BatchNorm, Conv, FullyConnected, MaxPool, local_response_norm
from cnnjax.models.adapter import from_linen
from cnnjax.types import Array, Model, Outputs

# Table 1: filters of each stage, and by column the window sides of each stage's convolutions.
WIDTHS = (64, 128, 256, 512, 512)
CONFIGURATIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),  # with local response normalisation after the first
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
ALIASES = {"11": "A", "13": "B", "16": "D", "19": "E"}
"""By the number of weight layers; 16 is D, as everywhere, though C has as many."""


class _VGG(nn.Module):
    num_classes: int
    variant: str
    batch_norm: bool
    dropout_rate: float

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        glorot = nn.initializers.glorot_uniform()
        outputs = {}
        x = image
        for stage, (width, sides) in enumerate(zip(WIDTHS, CONFIGURATIONS[self.variant], strict=True), start=1):
            for i, side in enumerate(sides, start=1):
                x = Conv(width, side, padding=side // 2, kernel_init=glorot, name=f"conv{stage}_{i}")(x)
                if self.batch_norm:
                    x = BatchNorm(name=f"bn{stage}_{i}")(x, train=train)
                x = outputs[f"conv{stage}_{i}"] = nn.relu(x)
                if self.variant == "A-LRN" and stage == 1:
                    x = outputs["norm1"] = local_response_norm(x)  # AlexNet's constants, as section 3.1 says
            x = outputs[f"pool{stage}"] = MaxPool(2, name=f"pool{stage}")(x)  # [B,H/2^stage,W/2^stage,width]
        fc6 = FullyConnected(4096, kernel_init=glorot, pool=7, name="fc6")  # of 25088: the map as it is at 224x224
        for name, dense in (("fc6", fc6), ("fc7", nn.Dense(4096, kernel_init=glorot, name="fc7"))):
            x = outputs[name] = nn.relu(dense(x))  # [B,4096]
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        outputs["features"] = outputs["fc7"]
        outputs["logits"] = nn.Dense(self.num_classes, kernel_init=glorot, name="output")(x)
        return outputs


def vgg(*, num_classes: int, variant: str = "D", batch_norm: bool = False, dropout_rate: float = 0.5) -> Model:
    """VGG.

    Args:
      num_classes: K.
      variant: the column of table 1, A, A-LRN, B, C, D or E; or 11, 13, 16, 19 for A, B, D, E.
      batch_norm: normalise after each convolution.
      dropout_rate: of fc6 and fc7.

    Raises:
      UsageError: an unknown variant.
    """
    variant = ALIASES.get(variant, variant)
    if variant not in CONFIGURATIONS:
        raise UsageError(unknown("value of config.model.variant:", variant, [*CONFIGURATIONS, *ALIASES]))
    return from_linen(_VGG(num_classes, variant, batch_norm, dropout_rate))
