# SPDX-License-Identifier: Apache-2.0
"""An attribute in the latent space of a run: its vector, the pictures looked at, and the measures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax.errors import RunError, UsageError
from cnnjax.experiment import Network
from cnnjax.latent.codec import Codec
from cnnjax.latent.contrast import Contrast
from cnnjax.latent.control import Judge, mean_effect, sweep_effect
from cnnjax.latent.quality import pca_reconstruction, quality
from cnnjax.latent.vectors import attribute_vector, random_vectors
from cnnjax.predict import load_pictures

MOST_CHANGED = 1000  # held-out pictures that the effect is measured on


class Latents(NamedTuple):
    """The latents of both splits and the vector.

    Attributes:
      train: float32 [N,D].
      held_out: float32 [M,D].
      recon: float32 [M,H,W,C], of the held-out pictures.
      vector: float64 [D].
    """

    train: np.ndarray
    held_out: np.ndarray
    recon: np.ndarray
    vector: np.ndarray


class Shown(NamedTuple):
    """The pictures that are looked at closely.

    Attributes:
      image: uint8 [n,H,W,C].
      title: n captions.
      latent: float32 [n,D].
    """

    image: np.ndarray
    title: tuple[str, ...]
    latent: np.ndarray


def find_latents(codec: Codec, contrast: Contrast, direction: str) -> Latents:
    """Encodes both splits and takes the vector from the training split.

    Raises:
      UsageError: no such direction.
    """
    split = contrast.dataset.splits["train"]
    train, held_out = codec.encode(split.image), codec.encode(contrast.held_out.image)
    has, lacks = contrast.rows("train", has=True), contrast.rows("train", has=False)
    both = np.concatenate([has, lacks])
    vector = attribute_vector(train[both], np.arange(len(both)) < len(has), direction)
    return Latents(train, held_out, codec.decode(held_out), vector)


def choose(
    codec: Codec,
    contrast: Contrast,
    network: Network,
    *,
    files: Sequence[Path],
    indices: Sequence[int],
    num: int,
) -> Shown:
    """The user's pictures, rows of the held-out split, or by default the first `num` that lack the attribute.

    Raises:
      UsageError: no such row, or a number below 1.
      RunError: a file cannot be read as a picture.
    """
    split = contrast.held_out
    if files:
        image, unreadable = load_pictures(list(files), network)
        if unreadable:
            path, reason = next(iter(unreadable.items()))
            raise RunError(f"cannot read {path}: {reason}")
        title = [path.name for path in files]
    else:
        if num < 1:
            raise UsageError(f"--num is {num}; it must be 1 or more")
        if any(not 0 <= i < len(split.label) for i in indices):
            raise UsageError(f"--index counts from 0 to {len(split.label) - 1} in the {contrast.split} split")
        rows = list(indices) or [int(i) for i in contrast.rows(contrast.split, has=False)[:num]]
        image = split.image[rows]
        title = [f"{contrast.split}[{i}]\n{contrast.dataset.label_names[split.label[i]]}" for i in rows]
    return Shown(image, tuple(title), codec.encode(image))


def measure(
    codec: Codec,
    contrast: Contrast,
    latents: Latents,
    judge: Judge | None,
    *,
    strengths: Sequence[float],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """The numbers: reconstruction beside PCA, and what the vector does beside random ones of its length."""
    image, changed = contrast.held_out.image, contrast.rows(contrast.split, has=False)
    if len(changed) > MOST_CHANGED:
        changed = np.sort(np.random.default_rng(seed).choice(changed, MOST_CHANGED, replace=False))
    linear = pca_reconstruction(contrast.dataset.splits["train"].image, image, codec.size, seed)
    length = float(np.linalg.norm(latents.vector))

    def effect(vector: np.ndarray) -> list[dict[str, Any]]:
        arguments = (latents.held_out[changed], vector, strengths)
        return sweep_effect(codec.decode, *arguments, originals=latents.recon, own=changed, judge=judge)

    numbers: dict[str, Any] = {
        "attribute": contrast.name,
        "against": contrast.other,
        "dimensions": codec.size,
        "train": {kind: len(contrast.rows("train", has=has)) for kind, has in (("has", True), ("lacks", False))},
        "split": contrast.split,
        "pictures": len(image),
        "changed": len(changed),
        "vector_length": length,
        "latent_distance": float(np.mean(np.linalg.norm(latents.train - latents.train.mean(axis=0), axis=1))),
        "reconstruction": {
            "autoencoder": quality(image, latents.recon)._asdict(),
            "pca": None if linear is None else quality(image, linear)._asdict(),
        },
        "effect": effect(latents.vector),
    }
    if draws:
        random = random_vectors(codec.size, length, draws, seed)
        numbers["random"] = {"draws": draws, "effect": mean_effect([effect(vector) for vector in random])}
    if judge is not None:
        numbers["classifier"] = _judged(judge, contrast, latents)
    return numbers


def _judged(judge: Judge, contrast: Contrast, latents: Latents) -> dict[str, float]:
    """How right the classifier is on held-out pictures of the two kinds, and on their reconstructions."""
    has, lacks = (contrast.rows(contrast.split, has=kind) for kind in (True, False))

    def accuracy(pictures: np.ndarray) -> float:
        right = np.concatenate([judge(pictures[has]) > 0.5, judge(pictures[lacks]) <= 0.5])
        return float(np.mean(right))

    return {
        "accuracy": accuracy(contrast.held_out.image / np.float32(255)),
        "accuracy_of_reconstructions": accuracy(latents.recon),
    }
