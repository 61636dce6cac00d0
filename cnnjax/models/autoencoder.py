# SPDX-License-Identifier: Apache-2.0
"""A convolutional autoencoder: 3x3 convolutions that halve the map, a dense latent, and the mirror of both.

The decoder enlarges without transposed convolution, whose overlapping windows leave a checkerboard (Odena, Dumoulin
and Olah 2016, doi:10.23915/distill.00003): "resize" repeats each pixel twice along both axes and convolves;
"depth_to_space" convolves to four times the channels and lays them out as 2x2 pixels (Shi et al. 2016,
arXiv:1609.05158). The encoder halves with stride 2. A variational one (Kingma and Welling 2014, arXiv:1312.6114)
gives the latent's mean and log variance, decodes a draw from them in training and the mean otherwise. Pixels of
`recon` are in 0..1, whatever the input's normalisation. Initialisation: He et al. 2015 (arXiv:1502.01852).

Encoder and decoder are functions of their own too (`make_halves`), over the same parameters.
Parameters at 32x32x1, latent 32, widths (32, 64, 128): 318,369 with "resize", 596,004 with "depth_to_space".
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnjax.errors import UsageError, unknown
from cnnjax.layers import Conv, EnlargeConv
from cnnjax.models.adapter import from_linen
from cnnjax.types import Array, Model, Outputs, Params

DECODERS = ("resize", "depth_to_space")
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"sigmoid": nn.sigmoid, "none": lambda x: x}

Half = Callable[[Params, Array], Array]


def depth_to_space(x: Array) -> Array:
    """[B,H,W,4C] to [B,2H,2W,C]: channel (2i + j) C + c goes to row i, column j of the pixel's 2x2 block.

    Reference: Shi et al. 2016, equation 4, with the channels of a place side by side.
    """
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height, width, 2, 2, channels // 4)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)


class _Encoder(nn.Module):
    latent: int
    widths: Sequence[int]
    variational: bool

    @nn.compact
    def __call__(self, image: Array, *, draw: bool = False) -> Outputs:
        outputs, x = {}, image
        for i, width in enumerate(self.widths, start=1):
            x = nn.relu(Conv(width, 3, stride=2, padding=1, name=f"enc{i}")(x))  # [B,H/2^i,W/2^i,width]
            outputs[f"enc{i}"] = x
        x = x.reshape(x.shape[0], -1)
        mean = nn.Dense(self.latent, name="latent")(x)  # [B,D]
        if not self.variational:
            return {"latent": mean, **outputs}
        log_variance = nn.Dense(self.latent, name="log_variance")(x)  # [B,D]
        latent = mean
        if draw:  # the reparameterisation: the gradient passes through mean and variance
            latent += jnp.exp(log_variance / 2) * jax.random.normal(self.make_rng("dropout"), mean.shape, mean.dtype)
        return {"latent": latent, "latent_mean": mean, "latent_log_variance": log_variance, **outputs}


class _Decoder(nn.Module):
    image_shape: tuple[int, int, int]
    widths: Sequence[int]
    decoder: str
    activation: str

    @nn.compact
    def __call__(self, latent: Array) -> Outputs:
        height, width, channels = self.image_shape
        factor, deepest = 2 ** len(self.widths), self.widths[-1]
        shape = (height // factor, width // factor, deepest)
        x = nn.Dense(shape[0] * shape[1] * deepest, kernel_init=nn.initializers.he_normal(), name="map")(latent)
        x = nn.relu(x).reshape(-1, *shape)
        outputs = {}
        for i, features in enumerate(reversed(self.widths[:-1]), start=1):
            x = outputs[f"dec{i}"] = nn.relu(self._enlarged(x, features, f"dec{i}"))  # [B,2^i h,2^i w,features]
        x = self._enlarged(x, channels, "output")
        return {"recon": ACTIVATIONS[self.activation](x), **outputs}  # [B,H,W,C]

    def _enlarged(self, x: Array, features: int, name: str) -> Array:
        """Twice as high and wide, with `features` channels."""
        if self.decoder == "resize":
            return EnlargeConv(features, name=name)(x)
        return depth_to_space(Conv(4 * features, 3, padding=1, name=name)(x))


class _Autoencoder(nn.Module):
    latent: int
    widths: Sequence[int]
    decoder: str
    activation: str
    variational: bool

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Outputs:
        height, width, channels = image.shape[1:]
        check_image_size(height, width, len(self.widths))
        encoded = _Encoder(self.latent, self.widths, self.variational, name="encoder")(image, draw=train)
        decoder = _Decoder((height, width, channels), self.widths, self.decoder, self.activation, name="decoder")
        return {**encoded, **decoder(encoded["latent"])}


def autoencoder(
    *,
    latent: int = 32,
    widths: tuple[int, ...] = (32, 64, 128),
    decoder: str = "resize",
    activation: str = "sigmoid",
    variational: bool = False,
) -> Model:
    """Outputs `recon` [B,H,W,C], `latent` [B,D], and the maps `enc1`..., `dec1`...

    A variational one also gives `latent_mean` and `latent_log_variance` [B,D]; `latent` is the mean in evaluation and
    a draw in training, by the key of the step.

    Args:
      latent: D, the numbers that a picture is squeezed into.
      widths: channels of the encoder's maps, each half as high and wide as the one before; the decoder mirrors them.
        Both sides of the image must be multiples of 2^len(widths).
      decoder: "resize" or "depth_to_space".
      activation: of `recon`: "sigmoid", which keeps it in 0..1, or "none".
      variational: whether the latent is a distribution; `config.task.kl_weight` then weighs its divergence.

    Raises:
      UsageError: an argument is out of range. The model's functions: an image that does not divide.
    """
    _check_arguments(latent, widths, decoder, activation)
    return from_linen(_Autoencoder(latent, widths, decoder, activation, variational))


def make_halves(
    image_shape: tuple[int, int, int],
    *,
    latent: int = 32,
    widths: tuple[int, ...] = (32, 64, 128),
    decoder: str = "resize",
    activation: str = "sigmoid",
    variational: bool = False,
) -> tuple[Half, Half]:
    """`encode(params, image)` and `decode(params, latent)`, over the parameters of `autoencoder`.

    Args:
      image_shape: (H, W, C) of the images that the network was made for.
      latent: this and the others as those of `autoencoder`.
      widths: of the encoder.
      decoder: "resize" or "depth_to_space".
      activation: "sigmoid" or "none".
      variational: `encode` then gives the mean.

    Returns:
      (encode, decode): from images [B,H,W,C] to latents [B,D], and from these to pictures [B,H,W,C], `recon`.

    Raises:
      UsageError: as `autoencoder`.
    """
    _check_arguments(latent, widths, decoder, activation)
    check_image_size(*image_shape[:2], len(widths))
    encoder, decoded = _Encoder(latent, widths, variational), _Decoder(image_shape, widths, decoder, activation)

    def encode(params: Params, image: Array) -> Array:
        outputs: Outputs = encoder.apply({"params": params["encoder"]}, image)  # pyright: ignore[reportAssignmentType]
        return outputs["latent"]

    def decode(params: Params, latent: Array) -> Array:
        outputs: Outputs = decoded.apply({"params": params["decoder"]}, latent)  # pyright: ignore[reportAssignmentType]
        return outputs["recon"]

    return encode, decode


def check_image_size(height: int, width: int, depth: int) -> None:
    """Raises UsageError unless both sides can be halved `depth` times."""
    factor = 2**depth
    below = [side // factor * factor for side in (height, width) if side % factor]
    if below:
        sizes = sorted({size for multiple in below for size in (multiple, multiple + factor) if size})
        raise UsageError(
            f"an autoencoder of {depth} widths halves the image {depth} times, so both sides must be multiples of "
            f"{factor}, such as {' or '.join(map(str, sizes))}; they are {height}x{width}: set config.data.image_size"
        )


def _check_arguments(latent: int, widths: tuple[int, ...], decoder: str, activation: str) -> None:
    if latent < 1:
        raise UsageError(f"config.model.latent is {latent}; it must be 1 or more")
    if not widths or not all(isinstance(width, int) and width >= 1 for width in widths):
        raise UsageError(f"config.model.widths is {widths}; give one number of channels, 1 or more, for each halving")
    if decoder not in DECODERS:
        raise UsageError(unknown("config.model.decoder", decoder, DECODERS))
    if activation not in ACTIVATIONS:
        raise UsageError(unknown("config.model.activation", activation, ACTIVATIONS))
