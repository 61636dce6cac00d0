# SPDX-License-Identifier: Apache-2.0
"""The twins are the same networks: equal outputs in Flax, equal numbers of parameters in both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.bench.flax_networks import NETWORKS
from cnnjax.bench.peers import comparable, count, flax_twin
from cnnjax.bench.subject import load_subject
from cnnjax.errors import RunError, UsageError
from cnnjax.models import MODELS, get_model
from cnnjax.preprocess import make_prepare
from cnnjax.types import Batch

# Small forms of every network whose outputs are compared; image side and channels.
SMALL = [
    ("mlp", {"hidden": (5, 4)}, 8, 1),
    ("lenet5", {"activation": "relu", "pool": "max"}, 32, 1),
    ("simple_cnn", {"widths": (4, 8), "convs_per_stage": 2, "dense": 8}, 16, 3),
    ("resnet_cifar", {"depth": 8}, 12, 3),
    ("resnet_cifar", {"depth": 8, "shortcut": "C", "batch_norm": False}, 12, 3),
    ("autoencoder", {"latent": 3, "widths": (4, 8)}, 8, 1),
    ("autoencoder", {"latent": 3, "widths": (4, 8), "decoder": "depth_to_space", "activation": "none"}, 8, 1),
]
# Full forms, of which only shapes are compared.
FULL = [
    ("alexnet", {}, 224),
    ("alexnet_one_tower", {}, 224),
    ("vgg", {"variant": "A-LRN"}, 224),
    ("vgg", {"variant": "16", "batch_norm": True}, 224),
    ("resnet", {"depth": 18}, 224),
    ("resnet", {"depth": 50}, 224),
]
TWINS = [*((name, arguments, (side, side, channels)) for name, arguments, side, channels in SMALL)] + [
    (name, arguments, (side, side, 3)) for name, arguments, side in FULL
]


def ours_and(name, arguments, twin, shape):
    num_classes = {} if name == "autoencoder" else {"num_classes": 3}
    return get_model(name, arguments, num_classes=3), twin(shape, **num_classes, **arguments)


def test_every_network_that_should_have_a_twin_has_one():
    assert set(MODELS) - set(NETWORKS) <= {"logistic", "lenet1989", "airbench"}


@pytest.mark.parametrize(("name", "arguments", "side", "channels"), SMALL)
def test_plain_flax_computes_the_same(name, arguments, side, channels):
    shape = (side, side, channels)
    ours, plain = ours_and(name, arguments, NETWORKS[name], shape)
    image = jax.random.normal(jax.random.key(1), (2, *shape))
    params, model_state = jax.jit(ours.init)(jax.random.key(0), image)
    outputs = [
        jax.jit(lambda p, s, x, model=model: model.apply(p, s, x, train=False)[0])(params, model_state, image)
        for model in (ours, plain)
    ]
    output = "recon" if name == "autoencoder" else "logits"
    size = float(np.std(outputs[1][output]))
    assert size > 0
    np.testing.assert_allclose(outputs[0][output], outputs[1][output], rtol=1e-4, atol=1e-3 * size)


@pytest.mark.parametrize(("name", "arguments", "side"), FULL)
def test_plain_flax_has_the_same_parameters(name, arguments, side):
    ours, plain = ours_and(name, arguments, NETWORKS[name], (side, side, 3))
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    trees = [jax.eval_shape(model.init, jax.random.key(0), image) for model in (ours, plain)]
    assert jax.tree.map(lambda x: x.shape, trees[0]) == jax.tree.map(lambda x: x.shape, trees[1])
    assert count(trees[0][0]) > 1e6
    shape = jax.eval_shape(lambda *args: plain.apply(*args, train=False), *trees[1], image)[0]["logits"].shape
    assert shape == (1, 3)


@pytest.mark.parametrize(("name", "arguments", "shape"), TWINS)
def test_torch_has_the_same_parameters(name, arguments, shape):
    torch = pytest.importorskip("torch")
    from cnnjax.bench.torch_networks import NETWORKS as TORCH

    with torch.device("meta"):  # shapes, no numbers
        ours, theirs = ours_and(name, arguments, TORCH[name], shape)
        output = theirs.eval()(torch.empty(2, shape[2], *shape[:2]))
    params = jax.eval_shape(ours.init, jax.random.key(0), jnp.zeros((1, *shape)))[0]
    assert sum(p.numel() for p in theirs.parameters()) == count(params)
    assert tuple(output.shape) == ((2, shape[2], *shape[:2]) if name == "autoencoder" else (2, 3))


@pytest.mark.parametrize("name", ["lenet5", "simple_cnn"])
def test_a_torch_chain_computes_the_same(name):
    torch = pytest.importorskip("torch")
    from cnnjax.bench.torch_networks import NETWORKS as TORCH

    ours, theirs = ours_and(name, {}, TORCH[name], (32, 32, 1))
    image = jax.random.normal(jax.random.key(1), (2, 32, 32, 1))
    params, _ = ours.init(jax.random.key(0), image)
    for layer, leaves in params.items():
        kernel, module = np.array(leaves["kernel"]), getattr(theirs, layer)
        if (name, layer) == ("simple_cnn", "features"):
            kernel = kernel.reshape(4, 4, -1, kernel.shape[-1]).transpose(2, 0, 1, 3).reshape(kernel.shape)
        axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        module.weight.data = torch.from_numpy(kernel.transpose(axes).copy())
        module.bias.data = torch.from_numpy(np.array(leaves["bias"]))
    with torch.inference_mode():
        logits = theirs.eval()(torch.from_numpy(np.array(image.transpose(0, 3, 1, 2)))).numpy()
    expected = ours.apply(params, {}, image, train=False)[0]["logits"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-3 * float(np.std(expected)))


def test_what_has_no_twin_is_one_line(tiny):
    subject = load_subject(tiny("model.name=logistic"))
    with pytest.raises(UsageError, match=r"logistic has no flax twin.* lenet5"):
        flax_twin(subject)
    subject = load_subject(tiny("model.name=lenet5", "model.sparse_c3=True", "data.synthetic.image_shape=(32,32,1)"))
    with pytest.raises(UsageError, match=r"knows no sparse_c3; leave config\.model.sparse_c3 at False"):
        flax_twin(subject)
    subject = load_subject(tiny("model.name=vgg", "model.variant=A", "data.synthetic.image_shape=(64,64,3)"))
    with pytest.raises(RunError, match="at 64x64x3, ours"):
        flax_twin(subject)


def test_peers_train_without_augmentation(tiny):
    changed = [f"augment.{key}=0.3" for key in ("mirror", "rotate", "contrast", "mixup", "cutmix", "erase")]
    config = tiny(*changed, "augment.crop_area=(0.1,0.5)", "augment.scale=(0.5,2.0)", "augment.shift=2")
    plain = comparable(config)
    assert config.augment.mirror == 0.3  # the caller's own is left alone
    rows = jnp.arange(4)
    image = jax.random.randint(jax.random.key(0), (4, 8, 8, 1), 0, 255).astype(jnp.uint8)
    batch = Batch(image=image, label=rows, mask=jnp.ones(4), example=rows, epoch=rows)
    train, evaluation = make_prepare(plain.data, plain.augment, 3)
    key = jax.random.key(3)
    np.testing.assert_array_equal(train(key, batch)["image"], evaluation(key, batch)["image"])
