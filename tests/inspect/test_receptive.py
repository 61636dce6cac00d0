# SPDX-License-Identifier: Apache-2.0
"""Receptive fields against gradients, against hand-computed and published numbers."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.inspect.receptive import Fields, ReceptiveField, output_boxes
from cnnjax.inspect.steps import Value
from cnnjax.inspect.summary import summarize
from cnnjax.inspect.trace import trace
from cnnjax.layers import adaptive_avg_pool2d, avg_pool2d, conv2d, max_pool2d
from cnnjax.models import MODELS
from cnnjax.types import Array, Model

Net = Callable[[dict[str, Array], Array], Array]


def fields_of(net: Net, shape: tuple[int, int, int], params: dict[str, Array]) -> tuple[Fields, Value]:
    """The fields of `net(params, image)` [1,h,w,C], and its result."""
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    traced = trace(lambda params, model_state, image: net(params, image), params, {}, image)
    return Fields(traced, traced.inputs[-1]), traced.outputs[0]


def measure(net: Net, shape: tuple[int, int, int], params: dict[str, Array], samples: int) -> np.ndarray:
    """[h,w,4]: for each place the box of the pixels that its value has a gradient for, in any of the samples.

    Pixels and weights are positive, so that nothing cancels and every rectifier is open.
    """
    images = jax.random.uniform(jax.random.key(1), (samples, 1, *shape), minval=0.5)
    jacobian = jax.jit(jax.vmap(jax.jacrev(lambda image: net(params, image)[0].sum(-1)), out_axes=-1))(images)
    seen = np.abs(np.asarray(jacobian)).sum((2, 5, 6)) > 0  # [h,w,H,W]
    boxes = np.zeros((*seen.shape[:2], 4), int)
    for i, j in np.ndindex(*seen.shape[:2]):
        rows, columns = np.nonzero(seen[i, j].any(1))[0], np.nonzero(seen[i, j].any(0))[0]
        if len(rows):
            boxes[i, j] = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    return boxes


def weights(**shapes: tuple[int, ...]) -> dict[str, Array]:
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {
        name: jax.random.uniform(key, shape, minval=0.1)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


THREE = weights(a=(3, 3, 1, 2), b=(3, 3, 2, 2), c=(3, 3, 2, 2), d=(5, 5, 1, 2), e=(1, 1, 1, 2))


def chain(p, x):
    return conv2d(nn.relu(conv2d(x, p["a"], padding=1)), p["b"])


def strides(p, x):
    x = conv2d(x, p["a"], stride=(2, 1), padding=((1, 0), (2, 1)))
    return conv2d(avg_pool2d(x, 3, 2, padding=1), p["b"], padding=1)


def max_pools(p, x):
    return max_pool2d(max_pool2d(x, 3, 2, padding=(1, 0)), 2, 1)


def dilation(p, x):
    return conv2d(conv2d(x, p["a"], dilation=(2, 1), padding=2), p["b"], dilation=4, padding=4)


def branches(p, x):
    parts = conv2d(x, p["a"], padding=1), conv2d(x, p["d"], padding=2), conv2d(x, p["e"])
    return jnp.concatenate([*parts, nn.avg_pool(x, (3, 3), (1, 1), "SAME")], -1)


def inception(p, x):
    x = branches(p, x)
    return conv2d(x[..., 2:4] + x[..., :2], p["b"], stride=2, padding=1)


def skips(p, x):
    y = conv2d(conv2d(x, p["a"], stride=2, padding=1), p["b"], padding=1)
    return nn.relu(y + conv2d(x, p["e"], stride=2))


def grouped(p, x):
    x = jnp.concatenate([conv2d(x, p["a"], padding=1), conv2d(x, p["d"], padding=2)], -1)
    return conv2d(x, jnp.concatenate([p["b"], p["c"]], -1), groups=2)[..., :2]


def shuffled_up(p, x):
    x = conv2d(x, jnp.tile(p["a"], (1, 1, 1, 2)), stride=2, padding=1)
    b, h, w, _ = x.shape
    x = x.reshape(b, h, w, 2, 2, 1).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, 1)
    return conv2d(x, p["a"], padding=1)


def repeated(p, x):
    x = jnp.repeat(jnp.repeat(conv2d(x, p["a"], stride=2, padding=1), 2, axis=1), 2, axis=2)
    return conv2d(x, p["b"], padding=1)


def resized(p, x):
    x = conv2d(x, p["a"], stride=2, padding=1)
    return jax.image.resize(x, (1, 2 * x.shape[1], 2 * x.shape[2], 2), "bilinear")


def resized_nearest(p, x):
    return conv2d(jax.image.resize(x, (1, 20, 18, 1), "nearest"), p["a"], padding=1)


def transposed(p, x):
    x = conv2d(x, p["a"], stride=2, padding=1)
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_transpose(x, p["b"], (2, 2), "SAME", dimension_numbers=numbers)


def adaptive(p, x):
    return adaptive_avg_pool2d(conv2d(x, p["a"], padding=1), (3, 4))


def reflected(p, x):
    x = jnp.pad(x, ((0, 0), (2, 2), (1, 1), (0, 0)), mode="reflect")
    return conv2d(x, p["a"])


def padded_and_cut(p, x):
    x = jnp.pad(x, ((0, 0), (0, 2), (3, 0), (0, 0)))[:, 1:, ::-2]
    return conv2d(x, p["a"], padding=1)


def gathered(p, x):
    return conv2d(x[:, np.array([0, 3, 1, 7, 7, 2])], p["a"])


def patches(p, x):
    """im2col, then the matrix product."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, w = x.shape[1] - 2, x.shape[2] - 2
    columns = jnp.stack([x[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=-2)
    return (columns.reshape(-1, 9) @ p["a"].reshape(9, 2)).reshape(1, h, w, 2)


def reshaped_pool(p, x):
    return conv2d(x, p["a"], padding=1).reshape(1, 5, 2, 3, 3, 2).mean((2, 4))


def channels_first(p, x):
    x = jnp.transpose(x, (0, 3, 1, 2))
    x = jax.lax.conv_general_dilated(x, p["a"], (2, 1), "SAME", dimension_numbers=("NCHW", "HWIO", "NCHW"))
    return jnp.transpose(x, (0, 2, 3, 1))


def scanned(p, x):
    x = conv2d(x, p["a"], padding=1)
    return jax.lax.scan(lambda x, w: (conv2d(x, w, padding=1), None), x, jnp.stack([p["b"], p["c"]]))[0]


def stacked(p, x):
    kernels = jnp.stack([p["a"], 2 * p["a"]])
    return jax.lax.scan(lambda x, w: (x, conv2d(x, w, padding=1)), x, kernels)[1].sum(0)


def elementwise_loop(p, x):
    return jax.lax.fori_loop(0, 3, lambda i, x: jnp.sqrt(x) + i, conv2d(x, p["a"], padding=1))


def remat_and_branches(p, x):
    x = jax.checkpoint(lambda x: conv2d(x, p["a"], padding=1))(x)
    return jax.lax.cond(p["e"].sum() > 0, lambda x: conv2d(x, p["b"], padding=1), lambda x: x, x)


def updated(p, x):
    return jnp.zeros((1, 14, 12, 1)).at[:, 2:-2, 1:-2].set(x)


def running_sums(p, x):
    x = conv2d(x, p["a"], padding=1)
    return jnp.cumsum(x, axis=1) + jax.lax.cumsum(x, axis=2, reverse=True)


def squeezed(p, x):
    y = conv2d(x, p["a"], padding=1)
    return y * nn.sigmoid(y.mean((1, 2), keepdims=True))


@pytest.mark.parametrize(
    ("net", "samples"),
    [
        *((net, 1) for net in (chain, strides, dilation, branches, inception, skips, grouped, shuffled_up, repeated)),
        *((net, 1) for net in (resized, resized_nearest, transposed, adaptive, reflected, padded_and_cut, gathered)),
        *((net, 1) for net in (patches, reshaped_pool, channels_first, scanned, stacked, elementwise_loop, updated)),
        *((net, 1) for net in (remat_and_branches, squeezed, running_sums)),
        (max_pools, 24),
    ],
)
def test_boxes_are_those_of_the_gradient(net, samples):
    shape = (10, 9, 1)
    fields, result = fields_of(net, shape, THREE)
    boxes = fields.boxes(result)
    np.testing.assert_array_equal(boxes, measure(net, shape, THREE, samples))


ALWAYS = ReceptiveField((3, 3), (1, 1), (-1, -1))


@pytest.mark.parametrize(
    ("net", "field"),
    [
        (chain, ReceptiveField((5, 5), (1, 1), (-1, -1))),
        # By hand: height 3, 5, 5 + 2 * 2 * 2 at jumps 2, 4, 4; width 3, 5, 5 + 2 * 2 at jumps 1, 2, 2.
        (strides, ReceptiveField((15, 9), (4, 2), (-7, -5))),
        (max_pools, ReceptiveField((5, 5), (2, 2), (-1, 0))),
        (dilation, ReceptiveField((13, 11), (1, 1), (-6, -6))),
        (branches, ReceptiveField((5, 5), (1, 1), (-2, -2))),
        (skips, ReceptiveField((7, 7), (2, 2), (-3, -3))),
        # Upsampled by 2, one 3x3 window over places that see the same two by two: 3 + 2, every second pixel.
        (repeated, ReceptiveField((5, 5), (1, 1), (-3, -3))),
        (transposed, ReceptiveField((5, 5), (1, 1), (-3, -3))),
        (patches, ALWAYS),
        (scanned, ReceptiveField((7, 7), (1, 1), (-3, -3))),
        (stacked, ALWAYS),
        (elementwise_loop, ALWAYS),
        (channels_first, ReceptiveField((3, 3), (2, 1), (0, -1))),
        (reshaped_pool, ReceptiveField((4, 5), (2, 3), (-1, -1))),
        (reflected, ReceptiveField((3, 3), (1, 1), (-2, -1))),
        (resized_nearest, ReceptiveField((2, 2), (0.5, 0.5), (-1, -1))),
    ],
)
def test_size_jump_and_start(net, field):
    fields, result = fields_of(net, (10, 9, 1), THREE)
    assert fields.receptive_field(result) == field


@pytest.mark.parametrize("net", [chain, strides, max_pools, branches, inception, skips, patches, scanned, stacked])
def test_far_from_the_border_the_box_is_the_theoretical_field(net):
    fields, result = fields_of(net, (40, 38, 1), THREE)
    field, boxes = fields.receptive_field(result), fields.boxes(result)
    assert field is not None
    i, j = boxes.shape[0] // 2, boxes.shape[1] // 2
    assert None not in field.jump
    top, left = (start + n * jump for start, n, jump in zip(field.start, (i, j), field.jump, strict=True))
    assert boxes[i, j].tolist() == [top, left, top + field.size[0], left + field.size[1]]


def test_a_field_larger_than_the_image():
    def net(p, x):
        for _ in range(4):
            x = conv2d(x, p["k"], stride=2, padding=1)
        return conv2d(conv2d(x, p["k"], padding=1), p["k"], padding=1)

    # 3, 7, 15, 31 at jumps 2 ... 16, then two times 2 * 16 more; the last maps are a single pixel.
    fields, result = fields_of(net, (16, 16, 1), weights(k=(3, 3, 1, 1)))
    assert fields.receptive_field(result) == ReceptiveField((95, 95), (16, 16), (-47, -47))
    assert fields.boxes(result).tolist() == [[[0, 0, 16, 16]]]


def test_a_loop_that_widens_the_field_is_taken_to_see_all():
    def net(p, x):
        def body(i, carry):
            x, y = carry
            return conv2d(x, p["k"], padding=1), y + x

        return jax.lax.fori_loop(0, 3, body, (x, x))[1]

    shape, params = (10, 9, 1), weights(k=(3, 3, 1, 1))
    fields, result = fields_of(net, shape, params)
    assert fields.boxes(result).reshape(-1, 4).tolist() == [[0, 0, 10, 9]] * 90
    assert (measure(net, shape, params, 1)[5, 5] == [3, 3, 8, 8]).all()

    def count(p, x):  # the index of a loop is not that of its first turn
        return jax.lax.fori_loop(0, 4, lambda i, y: y + x[:, i], jnp.zeros_like(x[:, 0]))

    fields, result = fields_of(count, shape, params)
    assert fields.boxes(result)[..., 2].max() == 10


def test_an_unknown_operation_sees_all_that_it_is_given():
    def net(p, x):
        return jnp.fft.fft2(x, axes=(1, 2)).real

    fields, result = fields_of(net, (10, 9, 1), THREE)
    assert fields.boxes(result)[4, 4].tolist() == [0, 0, 10, 9]


def test_what_does_not_see_the_image_has_no_field():
    fields, result = fields_of(lambda p, x: p["a"] * 2, (10, 9, 1), THREE)
    assert fields.receptive_field(result) is None
    assert not fields.boxes(result).any()


def test_boxes_of_a_models_outputs():
    def apply(params, model_state, image, *, train, key=None):
        stem = conv2d(image, params["a"], padding=1)
        return {"stem": stem, "logits": stem.mean((1, 2))}, model_state

    boxes = output_boxes(Model(lambda key, image: (THREE, {}), apply), (6, 8, 1))
    assert boxes["logits"].tolist() == [[[0, 0, 6, 8]]]
    assert boxes["stem"].shape == (6, 8, 4)
    assert boxes["stem"][0, 0].tolist() == [0, 0, 2, 2]
    assert boxes["stem"][3, 7].tolist() == [2, 6, 5, 8]


def last_map(name: str, size: int, **options) -> ReceptiveField | None:
    """The receptive field of the last map of a network, [h,w] > 1."""
    layers = summarize(MODELS[name](num_classes=10, **options), (size, size, 3), name).layers
    return [layer.receptive_field for layer in layers if len(layer.output_shape) == 3][-1]


@pytest.mark.parametrize(
    ("name", "options", "size", "jump"),
    [
        # Araujo et al. 2019, table 1; its AlexNet is the one tower, its ResNets have the stride in the 1x1.
        ("alexnet_one_tower", {}, 195, 32),
        ("vgg", {"variant": "D"}, 212, 32),
        ("resnet", {"depth": 50, "version": "v1"}, 483, 32),
        ("resnet", {"depth": 101, "version": "v1", "scan": True}, 1027, 32),
        # By hand: 3x3 windows add 2 * jump each.
        ("resnet", {"depth": 18}, 435, 32),
        ("resnet_cifar", {"depth": 20}, 1 + 2 * (7 * 1 + (1 + 5 * 2) + (2 + 5 * 4)), 4),
    ],
)
def test_published_fields(name, options, size, jump):
    image = 32 if name == "resnet_cifar" else 64
    field = last_map(name, image, **options)
    assert field is not None
    assert (field.size, field.jump) == ((size, size), (jump, jump))


def test_scanned_blocks_have_the_names_and_fields_of_plain_ones():
    plain, scanned = (
        summarize(MODELS["resnet_cifar"](num_classes=10, depth=20, scan=scan), (32, 32, 3), "net")
        for scan in (False, True)
    )
    assert "stage1/block3/conv1" in [layer.name for layer in plain.layers]
    assert plain.layers == scanned.layers
