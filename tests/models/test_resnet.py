# SPDX-License-Identifier: Apache-2.0
"""Residual networks: published counts, the blocks computed by hand or by torchvision, plain twins, scanned stages."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.inspect.summary import summarize
from cnnjax.layers import BatchNorm
from cnnjax.layers.scan import run_name, scan_blocks, stack, unstack
from cnnjax.models import get_model
from cnnjax.models.adapter import from_linen
from cnnjax.models.check import check_model
from cnnjax.models.resnet import resnet, resnet_cifar

KEY = jax.random.key(0)
# The smaller networks' counts are in test_reference.py, against XLA's as well; it takes these when asked for --slow.
IMAGENET = {101: (44_549_160, 7.570, 7.801), 152: (60_192_808, 11.282, 11.514)}


def shapes(model, *shape):
    """Params and model_state, traced only."""
    return jax.eval_shape(model.init, KEY, jnp.zeros((1, *shape)))


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def randomised(model, *shape):
    """Params and state of all-different values, so that no error hides behind a zero or a one."""
    rng = np.random.default_rng(0)

    def values(leaf):
        if leaf.shape[-2:-1] in ((), (2,), (3,), (4,)) and len(leaf.shape) < 3:  # a vector, stacked or not
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        fan_in = np.prod(leaf.shape[-4:-1])
        return jnp.asarray(rng.normal(size=leaf.shape) * (2 / fan_in) ** 0.5, jnp.float32)

    return jax.tree.map(values, shapes(model, *shape))


def run(model, params, state, image):
    return jax.jit(functools.partial(model.apply, train=False))(params, state, image)


def test_published_counts_of_the_deepest_cifar_network():
    summary = summarize(resnet_cifar(num_classes=10, depth=110), (32, 32, 3), "net")
    assert summary.params == 1_727_962
    assert round(summary.macs / 1e6, 2) == 252.89


@pytest.mark.parametrize(("depth", "version"), [(101, 1), (152, 0), (152, 1)])
def test_published_counts_of_imagenet_networks(depth, version):
    parameters, *macs = IMAGENET[depth]
    model = resnet(num_classes=1000, depth=depth, version=("v1", "v1.5")[version])
    summary = summarize(model, (224, 224, 3), "net")
    assert summary.params == parameters
    # The published 11.514 is 11.513626...e9 rounded; all others are exact to the last digit printed.
    assert round(summary.macs / 1e9, 3) == macs[version]


def test_options_add_and_remove_the_parameters_they_should():
    networks = [resnet(num_classes=10, depth=18, skip=False)]
    networks += [resnet(num_classes=10, depth=18, shortcut=shortcut) for shortcut in "ABC"]
    plain, a, b, c = (size(shapes(model, 32, 32, 3)[0]) for model in networks)
    changes = [(64, 128), (128, 256), (256, 512)]
    assert plain == a
    assert b - a == sum(i * o + 2 * o for i, o in changes)
    assert c - b == sum(n * (w * w + 2 * w) for n, w in [(2, 64), (1, 128), (1, 256), (1, 512)])
    params, state = shapes(resnet_cifar(num_classes=10, depth=8, batch_norm=False, shortcut="B"), 32, 32, 3)
    assert state == {} and "stem_bn" not in params
    assert set(params["stage2"]["block1"]) == {"conv1", "conv2", "shortcut_conv"}
    assert params["stage2"]["block1"]["conv1"]["bias"].shape == (32,)


def test_names_and_shapes():
    model = resnet(num_classes=7, depth=50)
    params, state = shapes(model, 224, 224, 3)
    apply = functools.partial(model.apply, train=False)
    assert set(params) == {"stem_conv", "stem_bn", "stage1", "stage2", "stage3", "stage4", "output"}
    assert list(params["stage3"]) == [f"block{b}" for b in range(1, 7)]
    first, second = params["stage1"]["block1"], params["stage1"]["block2"]
    assert set(first) - set(second) == {"shortcut_conv", "shortcut_bn"}
    assert first["shortcut_conv"]["kernel"].shape == (1, 1, 64, 256) and "bias" not in first["conv1"]
    assert state["batch_stats"]["stage4"]["block3"]["bn3"]["var"].shape == (2048,)
    for h, w, stem in ((224, 224, (112, 112)), (33, 47, (17, 24)), (1, 1, (1, 1))):
        image = jnp.zeros((2, h, w, 3))
        outputs, _ = jax.eval_shape(apply, params, state, image)
        got = {name: value.shape for name, value in outputs.items()}
        assert got["stem"] == (2, *stem, 64) and got["features"] == (2, 2048) and got["logits"] == (2, 7)
        for s in range(1, 5):
            ceil = [-(-side // 2 ** (s + 1)) for side in (h, w)]
            assert got[f"stage{s}"] == (2, *ceil, 64 * 4 * 2 ** (s - 1))


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_cifar_networks_take_odd_sizes(shortcut):
    model = resnet_cifar(num_classes=10, depth=8, shortcut=shortcut)
    apply = functools.partial(model.apply, train=True)
    outputs, _ = jax.eval_shape(apply, *shapes(model, 33, 7, 1), jnp.zeros((2, 33, 7, 1)))
    assert [outputs[f"stage{s}"].shape for s in (1, 2, 3)] == [(2, 33, 7, 16), (2, 17, 4, 32), (2, 9, 2, 64)]


def test_the_stride_of_v1_and_v1_5_is_where_it_belongs():
    def strides(version):
        model = resnet(num_classes=3, depth=50, version=version)
        rows = summarize(model, (64, 64, 3), "net").layers
        return [row.output_shape[0] for row in rows if row.name.startswith("stage2/block1/conv")]

    assert strides("v1") == [8, 8, 8]  # of a map of 16
    assert strides("v1.5") == [16, 8, 8]


def test_shortcut_a_by_hand():
    """With a residual branch of zeros, block and stage are ReLU(shortcut): pixels skipped, channels padded."""
    model = resnet_cifar(num_classes=10, depth=8)
    image = jax.random.uniform(KEY, (1, 5, 4, 3))
    params, state = randomised(model, 5, 4, 3)
    for s in ("stage2", "stage3"):
        params[s]["block1"]["bn2"] = jax.tree.map(jnp.zeros_like, params[s]["block1"]["bn2"])
    outputs, _ = run(model, params, state, image)
    before, after = np.asarray(outputs["stage1"]), np.asarray(outputs["stage2"])
    assert after.shape == (1, 3, 2, 32)
    np.testing.assert_array_equal(after[..., 8:24], before[:, ::2, ::2])
    assert not after[..., :8].any() and not after[..., 24:].any()
    assert before.any()


def test_a_basic_block_by_hand():
    """A 1x1 image, where only the centre tap of each kernel counts, so that a block is a few matrix products."""
    model = resnet_cifar(num_classes=4, depth=8, shortcut="B")
    image = jax.random.normal(KEY, (2, 1, 1, 3))
    params, state = randomised(model, 1, 1, 3)
    outputs, _ = run(model, params, state, image)
    stats = state["batch_stats"]

    def norm(x, p, s):
        return (x - np.asarray(s["mean"])) / np.sqrt(np.asarray(s["var"]) + 1e-5) * p["scale"] + np.asarray(p["bias"])

    def conv_norm(x, p, s, conv, bn):
        kernel = np.asarray(p[conv]["kernel"])
        return norm(x @ kernel[kernel.shape[0] // 2, kernel.shape[1] // 2], p[bn], s[bn])

    with jax.numpy_rank_promotion("allow"):
        x = np.maximum(conv_norm(np.asarray(image), params, stats, "stem_conv", "stem_bn"), 0)
        for stage in ("stage1", "stage2", "stage3"):
            p, s = params[stage]["block1"], stats[stage]["block1"]
            carried = conv_norm(x, p, s, "shortcut_conv", "shortcut_bn") if stage != "stage1" else x
            y = np.maximum(conv_norm(x, p, s, "conv1", "bn1"), 0)
            x = np.maximum(conv_norm(y, p, s, "conv2", "bn2") + carried, 0)
            np.testing.assert_allclose(outputs[stage], x, rtol=2e-4, atol=1e-5)
        logits = x[:, 0, 0] @ params["output"]["kernel"] + params["output"]["bias"]
    np.testing.assert_allclose(outputs["logits"], logits, rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [18, 50])
def test_the_forward_pass_is_torchvisions(depth):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    theirs = getattr(torchvision.models, f"resnet{depth}")().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if "num_batches" not in name:
                value.add_(0.1 * torch.rand_like(value) if value.ndim == 1 else 0.0 * value)
    model = resnet(num_classes=1000, depth=depth)
    tree = shapes(model, 33, 47, 3)
    tensors = {name: value.numpy() for name, value in theirs.state_dict().items()}
    params, state = jax.tree.map_with_path(functools.partial(_torchvisions, tensors), tree)
    image = np.random.default_rng(0).normal(size=(2, 33, 47, 3)).astype(np.float32)
    outputs, _ = run(model, params, state, image)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def _torchvisions(tensors, path, leaf):
    """The tensor of torchvision's that belongs at `path` of (params, model_state), in our layout."""
    *parts, kind = (str(key.key) for key in path if hasattr(key, "key") and key.key != "batch_stats")
    names = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    places = {"stem_conv": "conv1", "stem_bn": "bn1", "output": "fc",
              "shortcut_conv": "downsample.0", "shortcut_bn": "downsample.1"}  # fmt: skip
    here = [places.get(part, part) for part in parts]
    if parts[0].startswith("stage"):
        here = [f"layer{parts[0][5:]}", str(int(parts[1][5:]) - 1), *here[2:]]
    value = tensors[".".join([*here, names[kind]])]
    value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    assert value.shape == leaf.shape
    return jnp.asarray(value)


def test_initial_weights_are_the_papers():
    model = resnet_cifar(num_classes=10, depth=8)

    @jax.jit
    def init(key):
        params, _ = model.init(key, jnp.zeros((1, 4, 4, 3)))
        return params["stage3"]["block1"]["conv1"]["kernel"], params["output"]["kernel"]

    kernel, output = init(KEY)  # 3x3, 32 -> 64; 64 -> 10
    assert float(kernel.std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert float(jnp.abs(kernel).max()) > 3 * (2 / (9 * 64)) ** 0.5  # not truncated
    assert float(output.std()) == pytest.approx((2 / 64) ** 0.5, rel=0.1)


def test_zero_init_residual_starts_as_the_shortcut_alone():
    model = resnet(num_classes=2, depth=18, zero_init_residual=True)
    block = jax.jit(lambda key: model.init(key, jnp.zeros((1, 1, 1, 1)))[0]["stage2"]["block2"])(KEY)
    assert not block["bn2"]["scale"].any() and block["bn1"]["scale"].all()


@pytest.mark.parametrize("options", [{}, {"scan": True}, {"skip": False}, {"batch_norm": False}], ids=str)
def test_the_contract_is_kept(options):
    depth = 20 if "scan" in options else 8
    check_model(resnet_cifar(num_classes=10, depth=depth, **options), (32, 32, 3), 10, name="resnet_cifar")


def test_the_contract_is_kept_at_imagenets_size():
    check_model(resnet(num_classes=5, depth=18, scan=True), (224, 224, 3), 5, name="resnet")


def test_running_averages_move_in_training_only():
    model = resnet_cifar(num_classes=3, depth=8)
    image = jax.random.normal(KEY, (2, 4, 4, 1))
    params, state = randomised(model, 4, 4, 1)

    @functools.partial(jax.jit, static_argnums=0)
    def new_state(train):
        return model.apply(params, state, image, train=train)[1]

    jax.tree.map(np.testing.assert_array_equal, new_state(False), state)
    assert jax.tree.all(jax.tree.map(lambda new, old: bool((new != old).any()), new_state(True), state))


# Scanned stages.


@functools.cache
def _pair():
    """A network and its scanned twin, parameters of the latter, and an image."""
    options = {"num_classes": 3, "depth": 20, "shortcut": "B"}
    model, scanned = resnet_cifar(**options), resnet_cifar(**options, scan=True)
    return model, scanned, *randomised(scanned, 4, 4, 3), jax.random.normal(KEY, (2, 4, 4, 3))


def test_stacked_names_and_ordinary_ones():
    model, _, params, state, _ = _pair()
    assert [list(params[f"stage{s}"]) for s in (1, 2, 3)] == [["block1", "block2-3"]] * 3
    assert params["stage2"]["block2-3"]["conv1"]["kernel"].shape == (2, 3, 3, 32, 32)
    assert state["batch_stats"]["stage1"]["block2-3"]["bn1"]["mean"].shape == (2, 16)
    ours, theirs = jax.eval_shape(unstack, params), shapes(model, 4, 4, 3)[0]
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, theirs)
    for tree in (params, state):
        again = stack(unstack(tree), like=jax.eval_shape(lambda tree=tree: tree))
        assert jax.tree.structure(again) == jax.tree.structure(tree)
        jax.tree.map(np.testing.assert_array_equal, again, tree)
        jax.tree.map(np.testing.assert_array_equal, unstack(unstack(tree)), unstack(tree))


def test_scanned_blocks_start_with_weights_of_their_own():
    _, scanned, *_, image = _pair()
    kernels = jax.jit(lambda key: scanned.init(key, image)[0]["stage1"]["block2-3"]["conv1"]["kernel"])(KEY)
    assert float(kernels.std()) == pytest.approx((2 / (9 * 16)) ** 0.5, rel=0.03)
    assert abs(np.corrcoef(kernels.reshape(2, -1))[0, 1]) < 0.1


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * float(jnp.abs(b).max() + 1e-3))


def test_a_scanned_network_computes_the_same():
    model, scanned, params, state, image = _pair()
    outputs, same = run(scanned, params, state, image)
    assert set(outputs) == {"stem", "stage1", "stage2", "stage3", "features", "logits"}
    jax.tree.map(np.testing.assert_array_equal, same, state)
    jax.tree.map(close, outputs, run(model, unstack(params), unstack(state), image)[0])


def test_a_scan_stores_a_blocks_input_and_what_its_convolutions_gave():
    _, scanned, params, state, image = _pair()

    def loss(params):
        return scanned.apply(params, state, image, train=True)[0]["logits"].sum()

    eqns = [eqn for eqn in jax.make_jaxpr(jax.grad(loss))(params).eqns if eqn.primitive.name == "scan"]
    forward, backward = eqns[:3], eqns[3:]  # a loop for each stage
    assert [eqn.params["reverse"] for eqn in eqns] == [False] * 3 + [True] * 3
    for eqn, maps in zip(forward, ((4, 4, 16), (2, 2, 32), (1, 1, 64)), strict=True):
        stacks = [var.aval.shape for var in eqn.outvars if len(var.aval.shape) > 4]
        assert stacks == [(2, 2, *maps)] * 3
    assert any(var.aval.shape == (2, 2, 4, 4, 16) for var in backward[-1].invars)


class _Small(nn.Module):
    """A dense layer with BatchNorm, four times."""

    scan: bool

    @nn.compact
    def __call__(self, image, *, train):
        if self.scan:
            return {"logits": scan_blocks(_SmallBlock(name=run_name("block", 1, 4)), image, length=4, train=train)}
        for b in range(1, 5):
            image = _SmallBlock(name=f"block{b}")(image, train=train)
        return {"logits": image}


class _SmallBlock(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return x + jnp.tanh(BatchNorm(name="bn")(nn.Dense(3, use_bias=False, name="fc")(x), train=train))


def test_a_scanned_network_trains_the_same():
    ordinary, scanned = from_linen(_Small(False)), from_linen(_Small(True))
    image = jax.random.normal(KEY, (5, 3))
    params, state = jax.jit(scanned.init)(KEY, image)
    assert not np.allclose(*params["block1-4"]["fc"]["kernel"][:2])

    def train(model, params, state):
        def loss(params):
            outputs, new_state = model.apply(params, state, image, train=True)
            return jnp.square(outputs["logits"]).mean(), new_state

        return jax.value_and_grad(loss, has_aux=True)(params)

    (loss, new_state), gradient = jax.jit(functools.partial(train, ordinary))(unstack(params), unstack(state))
    (scanned_loss, scanned_state), scanned_gradient = jax.jit(functools.partial(train, scanned))(params, state)
    close(scanned_loss, loss)
    jax.tree.map(close, unstack(scanned_state), new_state)
    jax.tree.map(close, unstack(scanned_gradient), gradient)
    assert jax.tree.all(jax.tree.map(lambda new, old: bool((new != old).all()), scanned_state, state))


def test_the_program_of_a_scanned_network_does_not_grow_with_depth():
    def equations(jaxpr):
        inner = (value.jaxpr for eqn in jaxpr.eqns for value in jax.tree.leaves(eqn.params) if hasattr(value, "jaxpr"))
        return len(jaxpr.eqns) + sum(map(equations, inner))

    def length(depth, scan):
        model = resnet_cifar(num_classes=10, depth=depth, scan=scan)
        params, state = shapes(model, 32, 32, 3)
        apply = functools.partial(model.apply, train=True)
        return equations(jax.make_jaxpr(apply)(params, state, jnp.zeros((1, 32, 32, 3))).jaxpr)

    assert length(20, True) == length(44, True)
    assert length(44, False) > 2 * length(20, False)


def test_stack_refuses_what_does_not_fit():
    like = {"block2-3": {"w": jnp.zeros((2, 4))}}
    with pytest.raises(UsageError, match=r"block3 is missing, one of block2-3; there is block2"):
        stack({"block2": {"w": jnp.zeros(4)}}, like)
    with pytest.raises(UsageError, match=r"block2-3 do not have the same arrays"):
        stack({"block2": {"w": jnp.zeros(4)}, "block3": {"w": jnp.zeros(5)}}, like)
    extra = stack({"block2": {"w": jnp.zeros(4)}, "block3": {"w": jnp.ones(4)}, "more": {"w": 1}}, like)
    assert extra["more"] == {"w": 1} and set(extra) == {"more", "block2-3"}


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet_cifar", {"depth": 21}, r"depth is 21, but must be 6n \+ 2: 8, 14, 20"),
        ("resnet_cifar", {"depth": 2}, r"depth is 2, but"),
        ("resnet_cifar", {"shortcut": "D"}, r"config\.model\.shortcut: 'D'.*Known: A, B, C"),
        ("resnet", {"depth": 20}, r"depth is 20, but must be one of 18, 34, 50, 101, 152"),
        ("resnet", {"version": "1.5"}, r"config\.model\.version: '1\.5'; did you mean 'v1\.5'"),
        ("resnet", {"skip": False}, r"skip = False is for depth 18 and 34, not 50"),
        ("resnet", {"depth": 18, "skip": False, "zero_init_residual": True}, r"zero_init_residual needs"),
    ],
)
def test_wrong_arguments_are_told(name, arguments, message):
    with pytest.raises(UsageError, match=message):
        get_model(name, arguments, num_classes=10)
