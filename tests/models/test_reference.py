# SPDX-License-Identifier: Apache-2.0
"""Every network's published parameters and multiply-adds, from layer shapes, and against XLA's own count.

XLA counts floating-point operations: two a multiply-add, without the products with zeros of the padding, and one an
element of any other arithmetic (a window's or a sum's: one a value that goes in). So the tolerance is derived, not
chosen: flops = 2 * (multiply-adds that meet a pixel) + others, where 0 <= others <= the values that all other steps
take in or give, whichever are more. That is a hundredth of the products of a network for photographs and up to a
twelfth of a LeNet's, while padding alone is 4 to 8 hundredths of AlexNet's and VGG's.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

from cnnjax.inspect.steps import VIEWS, Step, macs
from cnnjax.inspect.summary import summarize
from cnnjax.inspect.trace import trace
from cnnjax.layers.lowering import native, operations
from cnnjax.models import get_model


class Row(NamedTuple):
    model: str
    arguments: dict[str, Any]
    side: int  # of the square input
    params: int
    macs: float | None  # as published
    digits: float = 1e6  # unit of its last digit

    def __str__(self) -> str:
        return "-".join([self.model, *map(str, self.arguments.values()), str(self.side)])


GIGA, MEGA = 1e9, 1e6
PROJECTIONS = 16 * 16 * 16 * 32 + 8 * 8 * 32 * 64
PAPER = {"sparse_c3": True, "pool": "trainable", "head": "rbf"}
ROWS = [
    Row("mlp", {}, 28, 952_410, 951_200, 1),  # 784*800 + 800*400 + 400*10
    Row("lenet1989", {}, 16, 9_760, 63_660, 1),  # 64,660 connections less 1,000 biases
    Row("lenet5", PAPER, 32, 60_000, None),
    Row("lenet5", {}, 32, 61_706, 416_520, 1),  # 117,600 + 240,000 + 48,000 + 10,080 + 840
    Row("alexnet", {}, 227, 60_965_224, 0.724 * GIGA),
    Row("alexnet", {}, 224, 60_965_224, 0.724 * GIGA),
    Row("alexnet_one_tower", {}, 224, 61_100_840, 0.714 * GIGA),
    Row("vgg", {"variant": "A"}, 224, 132_863_336, 7.609 * GIGA),
    Row("vgg", {"variant": "A-LRN"}, 224, 132_863_336, 7.609 * GIGA),
    Row("vgg", {"variant": "B"}, 224, 133_047_848, 11.308 * GIGA),
    Row("vgg", {"variant": "C"}, 224, 133_638_952, 11.771 * GIGA),
    Row("vgg", {"variant": "D"}, 224, 138_357_544, 15.470 * GIGA),
    Row("vgg", {"variant": "E"}, 224, 143_667_240, 19.632 * GIGA),
    Row("resnet", {"depth": 18}, 224, 11_689_512, 1.814 * GIGA),
    Row("resnet", {"depth": 34}, 224, 21_797_672, 3.664 * GIGA),
    Row("resnet", {"depth": 50, "version": "v1.5"}, 224, 25_557_032, 4.089 * GIGA),
    Row("resnet", {"depth": 50, "version": "v1"}, 224, 25_557_032, 3.858 * GIGA),
    Row("resnet", {"depth": 101, "version": "v1.5"}, 224, 44_549_160, 7.801 * GIGA),
    Row("resnet", {"depth": 101, "version": "v1"}, 224, 44_549_160, 7.570 * GIGA),
    Row("resnet", {"depth": 152, "version": "v1.5"}, 224, 60_192_808, 11.514 * GIGA),
    Row("resnet", {"depth": 152, "version": "v1"}, 224, 60_192_808, 11.282 * GIGA),
    Row("resnet_cifar", {"depth": 20, "shortcut": "A"}, 32, 269_722, 40.55 * MEGA, 1e4),
    Row("resnet_cifar", {"depth": 32, "shortcut": "A"}, 32, 464_154, 68.86 * MEGA, 1e4),
    Row("resnet_cifar", {"depth": 44, "shortcut": "A"}, 32, 658_586, 97.17 * MEGA, 1e4),
    Row("resnet_cifar", {"depth": 56, "shortcut": "A"}, 32, 853_018, 125.49 * MEGA, 1e4),
    Row("resnet_cifar", {"depth": 110, "shortcut": "A"}, 32, 1_727_962, 252.89 * MEGA, 1e4),
    # The two projections come on top.
    Row("resnet_cifar", {"depth": 20, "shortcut": "B"}, 32, 272_474, 40.55 * MEGA + PROJECTIONS, 1e4),
    Row("resnet_cifar", {"depth": 32, "shortcut": "B"}, 32, 466_906, 68.86 * MEGA + PROJECTIONS, 1e4),
    Row("resnet_cifar", {"depth": 44, "shortcut": "B"}, 32, 661_338, 97.17 * MEGA + PROJECTIONS, 1e4),
    Row("resnet_cifar", {"depth": 56, "shortcut": "B"}, 32, 855_770, 125.49 * MEGA + PROJECTIONS, 1e4),
    Row("resnet_cifar", {"depth": 110, "shortcut": "B"}, 32, 1_730_714, 252.89 * MEGA + PROJECTIONS, 1e4),
    Row("resnet_cifar", {"depth": 20, "skip": False}, 32, 269_722, 40.55 * MEGA, 1e4),
    Row("resnet_cifar", {"depth": 56, "skip": False}, 32, 853_018, 125.49 * MEGA, 1e4),
    # Less three projections: 64*128 + 128*256 + 256*512, and a scale and a bias for each of 896 maps.
    Row("resnet", {"depth": 18, "skip": False}, 224, 11_689_512 - 173_824, None),
    Row("resnet", {"depth": 34, "skip": False}, 224, 21_797_672 - 173_824, None),
]
# Depths and rows; the rest tells what a block more, a projection and a shortcut less count.
SLOW = {"32", "44", "101", "152", "110", "resnet_cifar-56-B-32", "resnet_cifar-56-False-32"}


def _case(row: Row) -> Any:
    slow = SLOW.intersection([str(row), *map(str, row.arguments.values())])
    return pytest.param(row, id=str(row), marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("row", [_case(row) for row in ROWS])
def test_published_numbers(row: Row, monkeypatch: pytest.MonkeyPatch):
    # XLA counts its own convolutions exactly; not oneDNN's, nor those that are computed in another way.
    monkeypatch.setitem(operations._CHOICES, "forward", lambda *shapes: native.forward)
    channels = 3 if row.side > 32 or row.model == "resnet_cifar" else 1
    model = get_model(row.model, row.arguments, num_classes=1000 if row.side > 32 else 10)
    summary = summarize(model, (row.side, row.side, channels), row.model)
    assert summary.params == row.params
    if row.macs is not None:
        assert abs(summary.macs - row.macs) <= row.digits / 2

    image = jax.ShapeDtypeStruct((1, row.side, row.side, channels), jnp.float32)
    params, state = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)

    def forward(params, state, image):
        return model.apply(params, state, image, train=False)[0]["logits"]

    cost = jax.jit(forward).lower(params, state, image).cost_analysis()
    assert cost is not None
    steps = trace(forward, params, state, image).steps
    assert sum(map(macs, steps)) == summary.macs
    products = 2 * sum(map(_macs_on_pixels, steps))
    assert products <= cost["flops"] <= products + sum(map(_other_operations, steps))


def _macs_on_pixels(step: Step) -> int:
    """Multiply-adds without those that take a zero of the padding; here no convolution is dilated."""
    if step.primitive != "conv_general_dilated":
        return macs(step)
    spec = step.params["dimension_numbers"]
    size, kernel, out = step.inputs[0].shape, step.inputs[1].shape, step.outputs[0].shape
    count = out[spec.out_spec[0]] * out[spec.out_spec[1]] * kernel[spec.rhs_spec[1]]
    for i, (stride, (low, _)) in enumerate(zip(step.params["window_strides"], step.params["padding"], strict=True)):
        taps = range(kernel[spec.rhs_spec[2 + i]])
        pixels = range(size[spec.lhs_spec[2 + i]])
        count *= sum(o * stride + k - low in pixels for o in range(out[spec.out_spec[2 + i]]) for k in taps)
    return count


def _other_operations(step: Step) -> int:
    """The most that XLA may count for a step that is no convolution or matrix product."""
    if macs(step) or step.primitive in VIEWS:
        return 0
    window = math.prod(step.params.get("window_dimensions", (1,)))
    return max(math.prod(value.shape) for value in (*step.inputs, *step.outputs)) * window
