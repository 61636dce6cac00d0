# SPDX-License-Identifier: Apache-2.0
"""A trained autoencoder as two functions of arrays: pictures to latents, latents to pictures.

Any network with the outputs `latent` and `recon` will do, of any library: the decoder is the part of its traced
program that lies behind the latent.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import RunError, UsageError
from cnnjax.experiment import Network
from cnnjax.predict import make_infer
from cnnjax.preprocess import make_prepare
from cnnjax.see.program import with_delta
from cnnjax.types import Array, Batch, Model, ModelState, Outputs, Params

_BATCH = 100
_TOLERANCE = 1e-3  # of a pixel in 0..1: encoder and decoder by turns against the whole network


class Codec(NamedTuple):
    """An autoencoder.

    Attributes:
      name: of the run.
      size: D, the numbers of a latent.
      encode: uint8 [N,H,W,C] -> float32 [N,D].
      decode: float [N,D] -> float32 [N,H,W,C] in 0..1.
    """

    name: str
    size: int
    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]


def load_codec(network: Network, workdir: str) -> Codec:
    """The two functions of a trained network.

    Raises:
      RunError: it is no autoencoder, its `recon` hangs on more than its `latent`, or it is not finite.
    """
    infer = make_infer(network.config, network.model, len(network.info.label_names))
    shape = (_BATCH, *network.info.image_shape)
    outputs = jax.eval_shape(infer, network.params, network.model_state, jax.ShapeDtypeStruct(shape, jnp.uint8))
    if not {"latent", "recon"} <= outputs.keys():
        raise RunError(
            f"{network.config.model.name} of {workdir} is no autoencoder: it has no outputs latent and recon; "
            "give the --workdir of one, such as a run of experiments/autoencoder_mnist.py"
        )
    if len(outputs["latent"].shape) != 2:
        raise RunError(f"the latent of {workdir} is a map {outputs['latent'].shape[1:]}; latents must be vectors [B,D]")
    compiled, behind = jax.jit(infer), jax.jit(_decoder(network))

    def encode(image: np.ndarray) -> np.ndarray:
        def part(rows: np.ndarray) -> Array:
            return compiled(network.params, network.model_state, jnp.asarray(rows))["latent"]

        return _finite(_in_batches(part, image), workdir)

    def decode(latent: np.ndarray) -> np.ndarray:
        def part(rows: np.ndarray) -> Array:
            return behind(network.params, network.model_state, jnp.asarray(rows, jnp.float32))

        return np.clip(_finite(_in_batches(part, latent), workdir), 0, 1)

    codec = Codec(Path(workdir).expanduser().resolve().name, outputs["latent"].shape[1], encode, decode)
    noise = np.random.default_rng(0).integers(0, 256, (2, *shape[1:]), np.uint8)
    whole = np.clip(compiled(network.params, network.model_state, _padded(noise))["recon"][:2], 0, 1)
    if np.abs(codec.decode(codec.encode(noise)) - whole).max() > _TOLERANCE:
        raise RunError(
            f"the recon of {workdir} is made of more than its latent (a connection leads past it), "
            "so adding to the latent alone says nothing; take a network without one"
        )
    return codec


def _decoder(network: Network) -> Callable[[Params, ModelState, Array], Array]:
    """`recon` of a latent, in whatever form the network takes it."""
    prepare = make_prepare(network.config.data, network.config.augment, len(network.info.label_names))[1]

    def apply(
        params: Params, model_state: ModelState, image: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Outputs, ModelState]:
        outputs, model_state = network.model.apply(params, model_state, image, train=train, key=key)
        return {"latent": outputs["latent"], "logits": outputs["recon"]}, model_state

    shifted = with_delta(Model(network.model.init, apply), "latent")

    def decode(params: Params, model_state: ModelState, latent: Array) -> Array:
        # Any picture does: what its latent lacks of the wanted one is added on the way.
        rows = jnp.zeros(len(latent), jnp.int32)
        black = jnp.zeros((len(latent), *network.info.image_shape), jnp.uint8)
        image = prepare(jax.random.key(0), Batch(image=black, label=rows, mask=rows))["image"]
        start = apply(params, model_state, image, train=False)[0]["latent"]
        try:
            return shifted(params, model_state, image, latent - start)["logits"]
        except UsageError:
            raise RunError(
                f"the recon of {network.config.model.name} is not made of its latent; take a network whose decoder "
                "starts from the output it calls latent"
            ) from None

    return decode


def _padded(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.zeros((_BATCH - len(rows), *rows.shape[1:]), rows.dtype)])


def _in_batches(function: Callable[[np.ndarray], Array], rows: np.ndarray) -> np.ndarray:
    """`function` over rows of any number, always called with the same shape: compiled once."""
    parts = []
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        parts.append(np.asarray(function(_padded(part)))[: len(part)])
    return np.concatenate(parts)


def _finite(values: np.ndarray, workdir: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise RunError(f"the network of {workdir} gives numbers that are not finite; it diverged in training")
    return values
