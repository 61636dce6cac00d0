# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import RunError
from cnnjax.experiment import Network, build_model
from cnnjax.latent.codec import load_codec
from cnnjax.predict import make_infer
from cnnjax.types import Model
from cnnjax.workdir import DatasetInfo

AUTOENCODER = ("model.name=autoencoder", "model.latent=3", "model.widths=(2,)", "task.name=reconstruction")
IMAGES = np.random.default_rng(0).integers(0, 256, (103, 8, 8, 1)).astype(np.uint8)


def network(config, model: Model | None = None) -> Network:
    model = model or build_model(config, 3)
    params, model_state = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 8, 8, 1)))
    info = DatasetInfo("synthetic", ("a", "b", "c"), (8, 8, 1), {"train": 1})
    return Network(config, info, model, 6, params, model_state)


def linear(recon):
    """An autoencoder in plain jnp whose `recon` comes from the latent and the picture as `recon` says."""

    def init(key, image):
        return {"w": 0.02 * jax.random.normal(key, (64, 3))}, {}

    def apply(params, model_state, image, *, train, key=None):
        del train, key
        latent = image.reshape(len(image), 64) @ params["w"]
        return {"latent": latent, "recon": recon(latent @ params["w"].T, image)}, model_state

    return Model(init, apply)


@pytest.mark.parametrize("own", [False, True])
def test_the_two_halves_are_the_network_for_any_number_of_pictures(tiny, own):
    config = tiny(*AUTOENCODER, "data.mean=(0.3,)", "data.std=(0.2,)")
    trained = network(config, linear(lambda x, image: jax.nn.sigmoid(x).reshape(image.shape)) if own else None)
    codec = load_codec(trained, "runs/own")
    assert (codec.name, codec.size) == ("own", 3)
    whole = make_infer(config, trained.model, 3)(trained.params, trained.model_state, jnp.asarray(IMAGES))
    latent = codec.encode(IMAGES)
    np.testing.assert_allclose(latent, whole["latent"], atol=1e-5)
    np.testing.assert_allclose(codec.decode(latent), np.clip(whole["recon"], 0, 1), atol=1e-5)
    assert codec.decode(latent[:2]).std() > 0


def test_what_is_no_autoencoder_of_vectors_is_told_in_one_line(tiny):
    config = tiny(*AUTOENCODER)
    with pytest.raises(RunError, match=r"mlp of runs/x is no autoencoder: it has no outputs latent and recon"):
        load_codec(network(tiny()), "runs/x")
    skip = linear(lambda x, image: 0.5 * image + 0.1 * x.reshape(image.shape))
    with pytest.raises(RunError, match=r"made of more than its latent"):
        load_codec(network(config, skip), "runs/x")
    past = linear(lambda x, image: image)
    with pytest.raises(RunError, match=r"is not made of its latent"):
        load_codec(network(config, past), "runs/x")
