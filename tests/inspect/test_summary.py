# SPDX-License-Identifier: Apache-2.0
"""Rows, names, parameters and multiply-adds, counted by hand, of models in three libraries."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from cnnjax.commands import main
from cnnjax.data import load_dataset
from cnnjax.errors import UsageError
from cnnjax.inspect.summary import format_table, summarize, to_json
from cnnjax.models.adapter import compute_in, from_linen
from cnnjax.types import Model
from cnnjax.workdir import begin, describe_dataset

CONV = ("NHWC", "HWIO", "NHWC")


def linen(forward) -> Model:
    """A Linen model whose compact call is `forward(x, train)`."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            return {"logits": forward(image, train)}

    return from_linen(Net())


def zeros(**shapes):
    return {name: jnp.zeros(shape) for name, shape in shapes.items()}


def plain(params, forward, model_state=None) -> Model:
    """A model in plain jnp: `forward(params, model_state, x)` gives the logits."""

    def apply(params, model_state, image, *, train, key=None):
        return {"logits": forward(params, model_state, image)}, model_state

    return Model(lambda key, image: (params, model_state or {}), apply)


def conv(x, kernel, stride=1, padding="VALID", **options):
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=CONV, **options)


def window_sum(x, window, strides):
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, "SAME")


def rows(model, shape):
    """(name, type, output shape, params, macs) of each layer; the totals are checked on the way."""
    summary = summarize(model, shape, "net")
    params, _ = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    assert summary.params == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert summary.params == sum(layer.params for layer in summary.layers)
    assert summary.macs == sum(layer.macs for layer in summary.layers)
    assert len({layer.name for layer in summary.layers}) == len(summary.layers)
    return [tuple(layer)[:5] for layer in summary.layers]


def test_lenet():
    def forward(x, train):
        x = nn.avg_pool(jnp.tanh(nn.Conv(6, (5, 5), padding="VALID", name="C1")(x)), (2, 2), (2, 2))
        x = nn.max_pool(nn.relu(nn.Conv(16, (5, 5), padding="VALID", name="C3")(x)), (2, 2), (2, 2))
        return nn.Dense(10, name="output")(x.reshape(x.shape[0], -1))

    assert rows(linen(forward), (32, 32, 1)) == [
        ("C1", "conv", (28, 28, 6), 156, 28 * 28 * 6 * 25),
        ("avg_pool", "avg_pool", (14, 14, 6), 0, 0),
        ("C3", "conv", (10, 10, 16), 2416, 10 * 10 * 16 * 150),
        ("max_pool", "max_pool", (5, 5, 16), 0, 0),
        ("flatten", "flatten", (400,), 0, 0),
        ("output", "dense", (10,), 4010, 4000),
    ]


def test_the_lectures_perceptron_and_its_table():
    def forward(x, train):
        x = x.reshape(x.shape[0], -1)
        for width in (800, 400):
            x = nn.relu(nn.Dense(width, name=f"hidden_{width}")(x))
        return nn.Dense(10, name="output")(x)

    summary = summarize(linen(forward), (28, 28, 1), "mlp")
    assert [layer.params for layer in summary.layers] == [0, 628_000, 320_400, 4_010]
    assert summary.params == 952_410
    assert format_table(summary).splitlines() == [
        "mlp, input 28x28x1",
        "",
        "layer       type     output  parameters  neurons  multiply-adds  field  jump  start",
        "----------  -------  ------  ----------  -------  -------------  -----  ----  -----",
        "flatten     flatten  784              0      784              0      1     1      0",
        "hidden_800  dense    800        628,000      800        627,200     28     -      0",
        "hidden_400  dense    400        320,400      400        320,000     28     -      0",
        "output      dense    10           4,010       10          4,000     28     -      0",
        "----------  -------  ------  ----------  -------  -------------  -----  ----  -----",
        "total                           952,410                 951,200",
    ]


def test_json_is_what_it_says():
    model = linen(lambda x, train: nn.Dense(2, name="output")(x.reshape(x.shape[0], -1)))
    document = to_json(summarize(model, (2, 3, 1), "net"))
    assert json.loads(json.dumps(document)) == document
    assert document == {
        "model": "net",
        "input_shape": [2, 3, 1],
        "layers": [
            {
                "name": "flatten",
                "type": "flatten",
                "output_shape": [6],
                "params": 0,
                "macs": 0,
                "neurons": 6,
                "receptive_field": {"size": [1, 1], "jump": [1, 1], "start": [0, 0]},
            },
            {
                "name": "output",
                "type": "dense",
                "output_shape": [2],
                "params": 14,
                "macs": 12,
                "neurons": 2,
                "receptive_field": {"size": [2, 3], "jump": [None, None], "start": [0, 0]},
            },
        ],
        "params": 14,
        "macs": 12,
    }


def test_one_filter_over_an_8x8_picture():
    model = linen(lambda x, train: nn.Conv(1, (3, 3), padding="VALID", name="conv")(x))
    assert rows(model, (8, 8, 3)) == [("conv", "conv", (6, 6, 1), 28, 36 * 27)]


def test_batch_norm_is_a_row_and_dropout_and_skips_are_none():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            y = nn.Conv(4, (3, 3), use_bias=False, name="conv")(x)
            y = nn.BatchNorm(use_running_average=not train, name="bn")(y)
            return nn.relu(x + nn.Dropout(0.5, deterministic=not train)(y))

    def forward(x, train):
        x = Block(name="block1")(x, train)
        x = nn.max_pool(Block(name="block2")(x, train), (2, 2))
        return nn.Dense(3, name="head")(x.mean((1, 2)))

    assert rows(linen(forward), (8, 8, 4)) == [
        ("block1/conv", "conv", (8, 8, 4), 144, 64 * 144),
        ("block1/bn", "batch_norm", (8, 8, 4), 8, 0),
        ("block2/conv", "conv", (8, 8, 4), 144, 64 * 144),
        ("block2/bn", "batch_norm", (8, 8, 4), 8, 0),
        ("max_pool", "max_pool", (7, 7, 4), 0, 0),
        ("global_avg_pool", "global_avg_pool", (4,), 0, 0),
        ("head", "dense", (3,), 15, 12),
    ]


def test_batch_norm_without_scale_and_bias_and_layer_norm():
    def forward(x, train):
        x = nn.BatchNorm(use_running_average=not train, use_scale=False, use_bias=False, name="bn")(x)
        x = nn.LayerNorm(name="ln")(x)
        x = nn.GroupNorm(2, name="gn")(x)
        x = nn.InstanceNorm(use_bias=False, name="in")(x)
        return nn.RMSNorm(name="rms")(x)

    assert rows(linen(forward), (4, 4, 2)) == [
        ("bn", "batch_norm", (4, 4, 2), 0, 0),
        ("ln", "norm", (4, 4, 2), 4, 0),
        ("gn", "norm", (4, 4, 2), 4, 0),
        ("in", "norm", (4, 4, 2), 2, 0),
        ("rms", "norm", (4, 4, 2), 2, 0),
    ]


def test_nnx_norms_are_rows_of_their_own():
    class Norms(nnx.Module):
        def __init__(self, rngs):
            self.norms = nnx.List([nnx.GroupNorm(4, 2, rngs=rngs), nnx.InstanceNorm(4, rngs=rngs)])

        def __call__(self, x):
            for norm in self.norms:
                x = norm(x)
            return x

    assert rows(from_nnx(Norms), (8, 8, 4)) == [
        ("norms/0", "norm", (8, 8, 4), 8, 0),
        ("norms/1", "norm", (8, 8, 4), 8, 0),
    ]


def test_parameters_of_a_module_itself():
    class Scaled(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.PReLU(name="prelu")(nn.Conv(2, (1, 1), name="conv")(x))
            return x * self.param("gamma_out", nn.initializers.ones, (1, 1, 1, 2))

    assert rows(linen(lambda x, train: Scaled(name="block")(x)), (4, 4, 2)) == [
        ("block/conv", "conv", (4, 4, 2), 6, 64),
        ("block/prelu", "affine", (4, 4, 2), 1, 0),
        ("block/out", "affine", (4, 4, 2), 2, 0),
    ]


def test_setup_modules_methods_and_nested_names():
    class Encoder(nn.Module):
        def setup(self):
            self.first = nn.Conv(2, (1, 1))
            self.second = nn.Conv(2, (1, 1))

        def __call__(self, x):
            return self.rest(self.first(x))

        def rest(self, x):
            return self.second(x)

    class Net(nn.Module):
        def setup(self):
            self.encoder = Encoder()
            self.tail = nn.Sequential([nn.Conv(2, (1, 1)), nn.relu, nn.Conv(2, (1, 1))])

        def __call__(self, image, *, train):
            return self.encode(image)

        def encode(self, image):
            return {"logits": self.encoder.rest(self.tail(self.encoder(image)))}

    assert [row[:1] + row[3:] for row in rows(from_linen(Net()), (3, 3, 2))] == [
        ("encoder/first", 6, 36),
        ("encoder/second", 6, 36),
        ("tail/layers_0", 6, 36),
        ("tail/layers_2", 6, 36),
        ("encoder/second_2", 0, 36),  # the same convolution again: computed twice, its parameters counted once
    ]


class Block(nn.Module):
    """A residual block of 3x3 convolution and BatchNorm, as a scan's body."""

    train: bool = False

    @nn.compact
    def __call__(self, x, _=None):
        y = nn.Conv(2, (3, 3), name="conv")(x)
        return nn.relu(x + nn.BatchNorm(use_running_average=not self.train, name="bn")(y)), None


def test_scanned_blocks_are_rows_of_their_own():
    def forward(x, train):
        stack = nn.scan(Block, variable_axes={"params": 0, "batch_stats": 0}, split_rngs={"params": True}, length=3)
        return stack(train, name="blocks")(x, None)[0].mean((1, 2))

    block = [("conv", "conv", (4, 4, 2), 38, 16 * 36), ("bn", "batch_norm", (4, 4, 2), 4, 0)]
    assert rows(linen(forward), (4, 4, 2)) == [
        *((f"blocks/{i}/{row[0]}", *row[1:]) for i in range(3) for row in block),
        ("global_avg_pool", "global_avg_pool", (2,), 0, 0),
    ]


def test_a_scan_in_a_module_within_a_scan():
    class Stage(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            stack = nn.scan(Block, variable_axes={"params": 0, "batch_stats": 0}, split_rngs={"params": True}, length=2)
            return stack(name="blocks")(x, None)

    def forward(x, train):
        stack = nn.scan(Stage, variable_axes={"params": 0, "batch_stats": 0}, split_rngs={"params": True}, length=2)
        return stack(name="stages")(x, None)[0]

    convs = [row for row in rows(linen(forward), (4, 4, 2)) if row[1] == "conv"]
    assert convs == [(f"stages/{i}/blocks/{j}/conv", "conv", (4, 4, 2), 38, 576) for i in (0, 1) for j in (0, 1)]


def test_remat_jit_and_vmap_leave_no_trace_in_the_names():
    def forward(x, train):
        x = nn.remat(Block)(train, name="remat")(x)[0]
        x = nn.jit(nn.Conv)(2, (1, 1), name="jit")(x)
        heads = nn.vmap(nn.Dense, {"params": 0}, {"params": True}, in_axes=None, axis_size=3)  # pyright: ignore
        return heads(5, name="heads")(x.reshape(x.shape[0], -1)).mean(0)

    assert rows(linen(forward), (4, 4, 2)) == [
        ("remat/conv", "conv", (4, 4, 2), 38, 576),
        ("remat/bn", "batch_norm", (4, 4, 2), 4, 0),
        ("jit", "conv", (4, 4, 2), 6, 64),
        ("flatten", "flatten", (32,), 0, 0),
        ("heads", "dense", (3, 5), 3 * (32 * 5 + 5), 3 * 32 * 5),
    ]


def test_a_pool_is_named_by_its_module():
    class Pool(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.max_pool(x, (2, 2), (2, 2))

    class Subsample(nn.Module):
        @nn.compact
        def __call__(self, x):
            total = 4 * nn.avg_pool(x, (2, 2), (2, 2))
            shape = (1, 1, 1, x.shape[-1])
            gain, bias = (
                self.param("gain", nn.initializers.ones, shape),
                self.param("bias", nn.initializers.zeros, shape),
            )
            return gain * total + bias

    class Stage(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.max_pool(nn.Conv(2, (1, 1), name="conv")(x), (2, 2), (2, 2))

    assert rows(linen(lambda x, train: Stage(name="stage")(Subsample(name="S2")(Pool(name="P1")(x)))), (8, 8, 2)) == [
        ("P1", "max_pool", (4, 4, 2), 0, 0),
        ("S2", "avg_pool", (2, 2, 2), 4, 0),
        ("stage/conv", "conv", (2, 2, 2), 6, 16),
        ("stage/max_pool", "max_pool", (1, 1, 2), 0, 0),
    ]


@pytest.mark.parametrize(
    ("pool", "layer"),
    [
        (lambda x: nn.avg_pool(x, (2, 2), (2, 2)), ("avg_pool", (2, 2, 3))),
        (lambda x: nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False), ("avg_pool", (4, 4, 3))),
        (
            lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
            ("sum_pool", (2, 2, 3)),
        ),
        (lambda x: x.reshape(-1, 2, 2, 2, 2, 3).max((2, 4)), ("max_pool", (2, 2, 3))),
        (lambda x: x.reshape(-1, 2, 2, 2, 2, 3).mean((2, 4)), ("avg_pool", (2, 2, 3))),
        (lambda x: x.reshape(-1, 2, 8, 3).mean(2), None),
        (lambda x: x.mean((1, 2), keepdims=True), ("global_avg_pool", (3,))),
        (lambda x: x.max((1, 2)), ("global_max_pool", (3,))),
        (lambda x: x.sum((1, 2)), ("global_sum_pool", (3,))),
        (lambda x: nn.log_softmax(x.mean((1, 2))), ("global_avg_pool", (3,))),
        (lambda x: x - x.mean((1, 2), keepdims=True), None),
        (lambda x: x / window_sum(x**2, (1, 1, 1, 3), (1, 1, 1, 1)), None),  # local response normalisation
        (lambda x: nn.max_pool(x, (1, 2)), ("max_pool", (4, 3, 3))),
        (lambda x: window_sum(x, (1, 1, 1, 3), (1, 1, 1, 1)), None),
        (lambda x: window_sum(x.transpose(0, 3, 1, 2), (1, 1, 2, 2), (1, 1, 2, 2)), ("sum_pool", (3, 2, 2))),
    ],
)
def test_pooling(pool, layer):
    found = rows(plain({}, lambda params, state, x: pool(x)), (4, 4, 3))
    assert [(kind, shape) for _, kind, shape, _, _ in found] == ([layer] if layer else [])


def from_nnx(make) -> Model:
    """An NNX module, called as `net(image)`, as two functions."""
    split = (nnx.Param, nnx.BatchStat, ...)
    graph, _, _, rest = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))), *split)

    def init(key, image):
        _, params, model_state, _ = nnx.split(make(nnx.Rngs(key)), *split)
        return params, model_state

    def apply(params, model_state, image, *, train, key=None):
        net = nnx.merge(graph, params, model_state, rest)
        net.set_attributes(use_running_average=not train, raise_if_not_found=False)
        return {"logits": net(image)}, nnx.state(net, nnx.BatchStat)

    return Model(init, apply)


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.bn1 = nnx.BatchNorm(4, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 4, use_bias=False, rngs=rngs)])
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.dense = nnx.Linear(4, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn1(self.conv1(x)))
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.dense(nnx.max_pool(self.norm(x), (8, 8)).reshape(x.shape[0], -1))


def test_nnx_layers_are_named_by_their_parameters():
    assert rows(from_nnx(NNXNet), (8, 8, 3)) == [
        ("conv1", "conv", (8, 8, 4), 112, 64 * 4 * 27),
        ("bn1", "batch_norm", (8, 8, 4), 8, 0),
        ("layers/0", "dense", (8, 8, 4), 20, 64 * 16),
        ("layers/1", "dense", (8, 8, 4), 16, 64 * 16),
        ("norm", "norm", (8, 8, 4), 8, 0),
        ("max_pool", "max_pool", (1, 1, 4), 0, 0),
        ("flatten", "flatten", (4,), 0, 0),
        ("dense", "dense", (10,), 50, 40),
    ]


def test_plain_jnp_with_nested_and_with_flat_names():
    params = {
        "conv1": zeros(w=(3, 3, 1, 2), b=(2,)),
        "bn1": zeros(gamma=(2,), beta=(2,)),
        **zeros(w_dense=(8, 4), b_dense=(4,), out_kernel=(4, 3), out_offset=(3,)),
    }

    def forward(p, state, x):
        x = conv(x, p["conv1"]["w"]) + p["conv1"]["b"].reshape(1, 1, 1, 2)
        mean, var = (state["bn1"][name].reshape(1, 1, 1, 2) for name in ("mean", "var"))
        gamma, beta = (p["bn1"][name].reshape(1, 1, 1, 2) for name in ("gamma", "beta"))
        x = jax.nn.relu((x - mean) / jnp.sqrt(var + 1e-5) * gamma + beta)
        x = nn.max_pool(nn.max_pool(x, (2, 2), (2, 2)), (2, 2), padding="SAME").reshape(x.shape[0], -1)
        x = jax.nn.relu(x @ p["w_dense"] + p["b_dense"][None])
        return x @ p["out_kernel"] + p["out_offset"][None]

    assert rows(plain(params, forward, {"bn1": zeros(mean=(2,), var=(2,))}), (6, 6, 1)) == [
        ("conv1", "conv", (4, 4, 2), 20, 16 * 2 * 9),
        ("bn1", "batch_norm", (4, 4, 2), 4, 0),
        ("max_pool", "max_pool", (2, 2, 2), 0, 0),
        ("max_pool_2", "max_pool", (2, 2, 2), 0, 0),
        ("flatten", "flatten", (8,), 0, 0),
        ("dense", "dense", (4,), 36, 32),
        ("out", "dense", (3,), 15, 12),
    ]


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ([(jnp.zeros((4, 3)), jnp.zeros(3)), (jnp.zeros((3, 2)), jnp.zeros(2))], ["dense_0", "dense_1"]),
        ([jnp.zeros((4, 3)), jnp.zeros(3), jnp.zeros((3, 2)), jnp.zeros(2)], ["dense_0", "dense_2"]),
        (zeros(w1=(4, 3), b1=(3,), w2=(3, 2), b2=(2,)), ["dense_1", "dense_2"]),
        (zeros(hidden=(4, 3), hidden_b=(3,), out=(3, 2), c=(2,)), ["hidden", "out"]),
        ({"layers": [zeros(w=(4, 3), b=(3,)), zeros(w=(3, 2), b=(2,))]}, ["layers/0", "layers/1"]),
        ({"net/~/l1": zeros(w=(4, 3), b=(3,)), "net/~/l2": zeros(w=(3, 2), b=(2,))}, ["net/l1", "net/l2"]),
    ],
)
def test_a_perceptron_in_any_tree(params, names):
    def forward(p, state, x):
        x, leaves = x.reshape(x.shape[0], -1), jax.tree.leaves(p)
        kernels = [leaf for leaf in leaves if leaf.ndim == 2]
        biases = [leaf for leaf in leaves if leaf.ndim == 1]
        first, second = sorted(kernels, key=lambda leaf: -leaf.shape[0])
        one, two = sorted(biases, key=lambda leaf: -leaf.shape[0])
        return jnp.tanh(x @ first + one[None]) @ second + two[None]

    assert rows(plain(params, forward), (2, 2, 1)) == [
        ("flatten", "flatten", (4,), 0, 0),
        (names[0], "dense", (3,), 15, 12),
        (names[1], "dense", (2,), 8, 6),
    ]


def test_parameters_without_names():
    def forward(p, state, x):
        x = x.reshape(-1, 4) @ p["w"] + p["b"][None]
        return (x - state["mean"][None]) / jnp.sqrt(state["var"][None]) * p["gamma"][None]

    params, model_state = zeros(w=(4, 3), b=(3,), gamma=(3,)), zeros(mean=(3,), var=(3,))
    assert rows(plain(params, forward, model_state), (2, 2, 1))[1:] == [
        ("dense", "dense", (3,), 15, 12),
        ("batch_norm", "batch_norm", (3,), 3, 0),
    ]


def test_two_kernels_in_a_list_are_two_layers():
    params = [jnp.zeros((4, 3)), jnp.zeros((3, 2))]
    found = rows(plain(params, lambda p, state, x: x.reshape(-1, 4) @ p[0] @ p[1]), (2, 2, 1))
    assert [row[0] for row in found] == ["flatten", "dense_0", "dense_1"]


def test_a_bias_of_another_name_belongs_to_the_product_that_it_is_added_to():
    def forward(p, state, x):
        x = (x.reshape(-1, 4) @ p["one"]).astype(jnp.bfloat16) + p["c"][None]
        return jnp.tanh(x) + p["d"][None]

    assert rows(plain(zeros(one=(4, 3), c=(3,), d=(3,)), forward), (2, 2, 1))[1:] == [
        ("one", "dense", (3,), 15, 12),
        ("d", "affine", (3,), 3, 0),
    ]


def test_a_product_with_constants_is_no_dense_layer():
    smooth = jnp.eye(4) + jnp.eye(4, k=1)
    assert rows(plain({}, lambda p, state, x: x @ smooth), (3, 3, 4)) == [("dot", "dot", (3, 3, 4), 0, 144)]


def test_named_scopes_of_plain_jnp():
    def forward(p, state, x):
        with jax.named_scope("stem"):
            x = conv(x, p["a"])
        with jax.named_scope("tail"):
            x = jnp.einsum("bhwc,cd->bhwd", x, p["b"])
            return nn.max_pool(x, (2, 2))

    assert rows(plain(zeros(a=(1, 1, 1, 2), b=(2, 3)), forward), (4, 4, 1)) == [
        ("stem", "conv", (4, 4, 2), 2, 32),
        ("tail/dense", "dense", (4, 4, 3), 6, 96),
        ("tail/max_pool", "max_pool", (3, 3, 3), 0, 0),
    ]


def test_unused_parameters_have_a_row():
    params = {"dense": zeros(w=(4, 3)), "head": zeros(w=(3, 5), b=(5,))}

    def forward(p, state, x):
        x = x.reshape(-1, 4) @ p["dense"]["w"]
        _ = x @ p["head"]["w"]  # computed and thrown away
        return x

    assert rows(plain(params, forward), (2, 2, 1))[1:] == [
        ("dense", "dense", (3,), 12, 12),
        ("unused", "unused", (), 20, 0),
    ]


def test_parameters_computed_before_use():
    params = {"conv": zeros(kernel=(3, 3, 1, 2), gain=(2,)), "tied": zeros(w=(4, 4)), "half": zeros(w=(3, 4, 4))}

    def forward(p, state, x):
        kernel = (
            p["conv"]["kernel"] / (1e-6 + jnp.linalg.norm(p["conv"]["kernel"])) * p["conv"]["gain"][None, None, None]
        )
        x = conv(x, jnp.transpose(kernel.astype(jnp.float32), (1, 0, 2, 3))).mean((1, 2)) @ p["tied"]["w"][:2]
        return x @ p["tied"]["w"].T @ p["half"]["w"][1]

    assert rows(plain(params, forward), (3, 3, 1)) == [
        ("conv", "conv", (1, 1, 2), 20, 18),
        ("global_avg_pool", "global_avg_pool", (2,), 0, 0),
        ("tied", "dense", (4,), 16, 8),
        ("tied_2", "dense", (4,), 0, 16),
        ("half", "dense", (4,), 48, 16),
    ]


def test_stacked_parameters_in_plain_scans():
    params = {"blocks": zeros(w=(3, 4, 4), b=(3, 4)), "shared": zeros(w=(4, 4))}

    def forward(p, state, x):
        x, _ = jax.lax.scan(lambda x, q: (jnp.tanh(x @ q["w"] + q["b"][None]), None), x.reshape(-1, 4), p["blocks"])
        x = x @ p["blocks"]["w"].sum(0)
        return jax.lax.fori_loop(0, 5, lambda i, x: x @ p["shared"]["w"], x)

    assert rows(plain(params, forward), (2, 2, 1))[1:] == [
        *((f"blocks/{i}", "dense", (4,), 20, 16) for i in range(3)),
        ("blocks", "dense", (4,), 0, 16),
        ("shared", "dense", (4,), 16, 5 * 16),  # not opened: one row, five times
    ]


def test_a_leaf_used_in_slices_and_as_a_whole_is_counted_once():
    def forward(p, state, x):
        def body(x, w):
            return x @ w @ p["w"].sum(0), None

        return jax.lax.scan(body, x.reshape(-1, 4), p["w"])[0]

    found = rows(plain(zeros(w=(3, 4, 4)), forward), (2, 2, 1))[1:]
    assert [row[3] for row in found] == [16, 32, 0, 0, 0, 0]


def test_im2col_is_no_flattening():
    def forward(p, state, x):
        patches = jnp.stack([x[:, i : i + 6, j : j + 6] for i in range(3) for j in range(3)], axis=-2)
        return (patches.reshape(-1, 27) @ p["conv"]["w"]).reshape(-1, 6, 6, 2)

    assert rows(plain({"conv": zeros(w=(27, 2))}, forward), (8, 8, 3)) == [("conv", "dense", (36, 2), 54, 36 * 54)]


def test_branches_count_the_costliest_and_while_loops_once():
    params = {"small": zeros(w=(4, 4)), "large": zeros(a=(4, 8), c=(8, 4)), "loop": zeros(w=(4, 4))}

    def forward(p, state, x):
        x = x.reshape(-1, 4)
        large = lambda x: x @ p["large"]["a"] @ p["large"]["c"]  # noqa: E731
        x = jax.lax.cond(x.sum() > 0, lambda x: x @ p["small"]["w"], large, x)
        return jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x @ p["loop"]["w"], x)

    assert {row[0]: row[3:] for row in rows(plain(params, forward), (2, 2, 1))[1:]} == {
        "large/a": (32, 32),
        "large/c": (32, 32),
        "small": (16, 0),
        "loop": (16, 16),
    }


@pytest.mark.parametrize(
    ("kernel", "options", "shape", "macs"),
    [
        ((3, 3, 4, 6), {}, (6, 6, 6), 36 * 6 * 36),
        ((3, 3, 2, 6), {"feature_group_count": 2}, (6, 6, 6), 36 * 6 * 18),
        ((3, 3, 1, 8), {"feature_group_count": 4}, (6, 6, 8), 36 * 8 * 9),
        ((3, 3, 4, 6), {"rhs_dilation": (2, 2)}, (4, 4, 6), 16 * 6 * 36),
        ((3, 3, 4, 6), {"stride": 2, "padding": ((1, 1), (1, 1))}, (4, 4, 6), 16 * 6 * 36),
        # Transposed, stride 2: each of 8x8x4 inputs meets all 2x2x6 weights; without the holes between them.
        ((2, 2, 4, 6), {"lhs_dilation": (2, 2), "padding": ((1, 1), (1, 1))}, (16, 16, 6), 64 * 4 * 24),
    ],
)
def test_multiply_adds_of_convolutions(kernel, options, shape, macs):
    model = plain(zeros(w=kernel), lambda p, state, x: conv(x, p["w"], **options))
    (row,) = rows(model, (8, 8, 4))
    assert row == ("conv", "conv", shape, jnp.zeros(kernel).size, macs)


def test_multiply_adds_agree_with_the_compiler():
    def forward(p, state, x):
        x = conv(x, p["a"]["w"], feature_group_count=2)
        x = conv(x, p["b"]["w"], stride=2)
        return x.reshape(x.shape[0], -1) @ p["c"]["w"]

    params = {"a": zeros(w=(3, 3, 2, 8)), "b": zeros(w=(3, 3, 8, 16)), "c": zeros(w=(7 * 7 * 16, 10))}
    summary = summarize(plain(params, forward), (17, 17, 4), "net")
    cost = jax.jit(forward).lower(params, {}, jnp.zeros((1, 17, 17, 4))).cost_analysis()
    assert cost is not None and cost["flops"] == pytest.approx(2 * summary.macs, rel=1e-3)


def test_bfloat16_computation_changes_no_row():
    def forward(x, train):
        x = nn.BatchNorm(use_running_average=not train, name="bn")(nn.Conv(2, (3, 3), name="conv")(x))
        return nn.Dense(3, name="head")(x.reshape(x.shape[0], -1))

    model = linen(forward)
    assert rows(compute_in(model, jnp.bfloat16), (4, 4, 1)) == rows(model, (4, 4, 1))


def test_long_names_and_huge_numbers_fit_into_120_columns():
    class Deep(nn.Module):
        depth: int

        @nn.compact
        def __call__(self, x):
            if self.depth:
                return Deep(self.depth - 1, name="a_rather_long_name")(x)
            return nn.Conv(1024, (9, 9), padding="SAME", name="conv")(x).mean((1, 2))

    model = linen(lambda x, train: Deep(4, name="deep")(x))
    table = format_table(summarize(model, (2048, 1024, 512), "deep"))
    assert max(map(len, table.splitlines())) < 120
    assert "\n...ng_name/conv  conv " in table
    small = format_table(summarize(model, (8, 8, 1), "deep"))
    assert "\n...long_name/a_rather_long_name/conv  conv " in small
    assert all(len(line) < 120 for line in small.splitlines())


def test_an_image_that_does_not_fit_is_one_line():
    model = linen(lambda x, train: nn.Conv(2, (5, 5), padding="VALID", name="conv")(x).mean((1, 2)) / x.shape[5])
    with pytest.raises(
        UsageError, match=r"^model net cannot be traced on a 4x4x1 image: .* \(.*test_summary.py:\d+\)$"
    ):
        summarize(model, (4, 4, 1), "net")


def test_the_command_for_a_config_and_for_a_run(tiny, tmp_path, capsys):
    config_file = Path(__file__).parents[2] / "experiments/default.py"
    source = ["--config.data.source=synthetic", "--config.data.synthetic.image_shape=(4,6,1)"]
    argv = ["summary", f"--config={config_file}", *source, "--config.model.hidden=(5,)", "--json"]
    assert main(argv) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["model"], document["input_shape"], document["params"]) == ("mlp", [4, 6, 1], 125 + 60)

    config = tiny()
    begin(tmp_path, config, describe_dataset(load_dataset(config.data)))
    assert main(["summary", f"--workdir={tmp_path}"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "mlp, input 8x8x1"
    assert table[-1].split() == ["total", "547", "536"]  # 64 * 8 + 8 + 8 * 3 + 3
    assert main(["summary"]) == 2
    assert capsys.readouterr().err.startswith("error: no config given")


def test_the_command_needs_no_data_when_told_shape_and_classes(capsys):
    config = [
        f"--config={Path(__file__).parents[2] / 'experiments/default.py'}",
        "--config.data.source=folder:/nowhere",
        "--config.model.hidden=(5,)",
    ]
    assert main(["summary", *config, "--input=4x6x1", "--num_classes=3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["input_shape"], document["params"]) == ([4, 6, 1], 24 * 5 + 5 + 5 * 3 + 3)
    assert main(["summary", *config, "--input=4x6x1"]) == 2
    assert capsys.readouterr().err.endswith("are not here to count their classes; give --num_classes=K\n")
    assert main(["summary", *config, "--num_classes=3"]) == 2
    assert capsys.readouterr().err.endswith("give --input=HxWxC\n")
    assert main(["summary", *config, "--num_classes=0"]) == 2
    assert capsys.readouterr().err == "error: --num_classes is 0; it takes 1 or more\n"
