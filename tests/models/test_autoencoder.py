# SPDX-License-Identifier: Apache-2.0
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UsageError
from cnnjax.models.autoencoder import autoencoder, depth_to_space, make_halves
from cnnjax.models.check import check_model

SMALL = {"latent": 3, "widths": (2, 4)}


def trace(model, shape):
    """The shapes of params and outputs for two images."""
    image = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    params, model_state = jax.eval_shape(model.init, jax.random.key(0), image)
    assert model_state == {}
    return params, jax.eval_shape(lambda p, x: model.apply(p, {}, x, train=False)[0], params, image)


def test_rearranged_pixels_by_hand():
    # One pixel of 4 places x 2 channels: place (i, j) of the block holds channels 2 (2i + j) and the next.
    block = depth_to_space(jnp.arange(8.0).reshape(1, 1, 1, 8))
    np.testing.assert_array_equal(block[0], [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
    two = depth_to_space(jnp.arange(8.0).reshape(1, 1, 2, 4))
    np.testing.assert_array_equal(two[0, :, :, 0], [[0, 1, 4, 5], [2, 3, 6, 7]])


def test_depth_to_space_is_pytorch_s_pixel_shuffle_up_to_the_order_of_channels():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 8)).astype(np.float32)
    # PyTorch's channel is 4 c + place, ours 2 place + c.
    theirs = x.reshape(2, 3, 5, 4, 2).transpose(0, 4, 3, 1, 2).reshape(2, 8, 3, 5)
    shuffled = torch.nn.functional.pixel_shuffle(torch.tensor(theirs), 2).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(depth_to_space(jnp.asarray(x)), shuffled)


@pytest.mark.parametrize(("decoder", "count"), [("resize", 318_369), ("depth_to_space", 596_004)])
def test_parameters_by_hand(decoder, count):
    # resize: 320 + 18,496 + 73,856 (enc), 65,568 (latent), 67,584 (map), 73,792 + 18,464 + 289 (dec, output);
    # depth_to_space: the last three are 295,168 + 73,856 + 1,156.
    params, _ = trace(autoencoder(decoder=decoder), (32, 32, 1))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize("decoder", ["resize", "depth_to_space"])
@pytest.mark.parametrize("shape", [(32, 32, 1), (48, 64, 3), (128, 128, 3)])
def test_any_size_that_halves_gray_or_color(decoder, shape):
    _, outputs = trace(autoencoder(decoder=decoder, latent=5, widths=(4, 6, 8, 10)), shape)
    height, width, channels = shape
    assert {name: value.shape for name, value in outputs.items()} == {
        "recon": (2, height, width, channels),
        "latent": (2, 5),
        **{f"enc{i}": (2, height // 2**i, width // 2**i, c) for i, c in enumerate((4, 6, 8, 10), start=1)},
        **{f"dec{i}": (2, height // 2 ** (4 - i), width // 2 ** (4 - i), c) for i, c in enumerate((8, 6, 4), start=1)},
    }


@pytest.mark.parametrize("decoder", ["resize", "depth_to_space"])
def test_it_keeps_the_contract_and_has_no_transposed_convolution(decoder):
    model = autoencoder(decoder=decoder, **SMALL)
    check_model(model, (8, 8, 1), 10, name="autoencoder")
    params, _ = trace(model, (8, 8, 1))
    image = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    program = str(jax.make_jaxpr(lambda p, x: model.apply(p, {}, x, train=False))(params, image))
    assert program.count("conv_general_dilated") == 4 and program.count("lhs_dilation=(1, 1)") == 4


@pytest.mark.parametrize("decoder", ["resize", "depth_to_space"])
def test_the_halves_make_the_whole(decoder):
    arguments = {**SMALL, "decoder": decoder, "activation": "none"}
    model = autoencoder(**arguments)
    image = jax.random.uniform(jax.random.key(1), (3, 8, 12, 3))
    params, _ = jax.jit(model.init)(jax.random.key(0), image)
    outputs, _ = jax.jit(partial(model.apply, train=False))(params, {}, image)
    encode, decode = make_halves((8, 12, 3), **arguments)
    np.testing.assert_array_equal(jax.jit(encode)(params, image), outputs["latent"])
    np.testing.assert_array_equal(jax.jit(decode)(params, outputs["latent"]), outputs["recon"])
    assert float(jnp.std(outputs["recon"])) > 0


def test_a_variational_one_draws_in_training_and_gives_the_mean_otherwise():
    arguments = {**SMALL, "variational": True}
    model = autoencoder(**arguments)
    check_model(model, (8, 8, 1), 10, name="autoencoder")
    image = jax.random.uniform(jax.random.key(1), (500, 8, 8, 1))
    params, _ = jax.jit(model.init)(jax.random.key(0), image[:1])
    still, _ = jax.jit(partial(model.apply, train=False))(params, {}, image)
    draw = jax.jit(lambda key: model.apply(params, {}, image, train=True, key=key)[0])
    drawn = draw(jax.random.key(2))
    np.testing.assert_array_equal(still["latent"], still["latent_mean"])
    np.testing.assert_array_equal(drawn["latent_mean"], still["latent_mean"])
    again, other = (draw(jax.random.key(k)) for k in (2, 3))
    np.testing.assert_array_equal(again["latent"], drawn["latent"])
    assert not np.array_equal(other["latent"], drawn["latent"])
    noise = (drawn["latent"] - still["latent"]) / jnp.exp(still["latent_log_variance"] / 2)
    assert abs(float(noise.mean())) < 0.1 and abs(float(noise.std()) - 1) < 0.05  # 1,500 standard normal draws
    encode, decode = make_halves((8, 8, 1), **arguments)
    np.testing.assert_allclose(jax.jit(encode)(params, image[:2]), still["latent"][:2], atol=1e-6)
    np.testing.assert_allclose(jax.jit(decode)(params, drawn["latent"][:2]), drawn["recon"][:2], atol=1e-6)


def test_the_sigmoid_keeps_pixels_in_range_and_none_leaves_them():
    image = jnp.full((1, 8, 8, 1), 100.0)
    bare, bounded = (autoencoder(activation=activation, **SMALL) for activation in ("none", "sigmoid"))
    params, _ = jax.jit(bare.init)(jax.random.key(0), image)
    free, kept = (
        jax.jit(partial(model.apply, train=False))(params, {}, image)[0]["recon"] for model in (bare, bounded)
    )
    assert float(jnp.max(jnp.abs(free))) > 1
    np.testing.assert_allclose(kept, jax.nn.sigmoid(free), rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "sizes"), [((28, 32, 1), "24 or 32"), ((32, 4, 1), "8"), ((33, 4, 1), "8 or 32 or 40")]
)
def test_a_size_that_does_not_halve_is_named_with_those_that_do(shape, sizes):
    with pytest.raises(UsageError, match=rf"multiples of 8, such as {sizes}; they are {shape[0]}x{shape[1]}"):
        trace(autoencoder(), shape)
    with pytest.raises(UsageError, match="multiples of 8"):
        make_halves(shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent": 0}, "config.model.latent is 0"),
        ({"widths": ()}, "config.model.widths is"),
        ({"widths": (4, 0)}, "config.model.widths is"),
        ({"decoder": "transpose"}, "unknown config.model.decoder 'transpose'"),
        ({"activation": "sigmod"}, "did you mean 'sigmoid'"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(UsageError, match=message):
        autoencoder(**arguments)
