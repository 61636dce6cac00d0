# SPDX-License-Identifier: Apache-2.0
"""Whether a vector does what it is called: a classifier's word, random vectors beside it, and who is still who."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnnjax.latent.quality import psnr_of
from cnnjax.latent.vectors import nearest

Judge = Callable[[np.ndarray], np.ndarray]
"""`judge(pictures float [N,H,W,C] in 0..1) -> probability [N]` that a picture has the attribute."""


def sweep_effect(
    decode: Callable[[np.ndarray], np.ndarray],
    latent: np.ndarray,
    vector: np.ndarray,
    strengths: Sequence[float],
    *,
    originals: np.ndarray,
    own: np.ndarray,
    judge: Judge | None,
) -> list[dict[str, Any]]:
    """What adding strength times a vector does to pictures, one row a strength.

    Args:
      decode: latents [N,D] -> pictures [N,H,W,C] in 0..1.
      latent: [N,D], of held-out pictures without the attribute.
      vector: [D].
      strengths: S numbers.
      originals: [M,H,W,C], the unchanged reconstructions of all held-out pictures.
      own: int [N], which of them is each picture's own.
      judge: of the attribute, or None.

    Returns:
      For each strength: `strength`; with a judge `rate`, the share of pictures judged to have the attribute
      (probability above 1/2); `same`, the share whose nearest neighbour among `originals`, by pixels, is their own;
      `psnr`, dB between the changed and the unchanged reconstruction, the mean over pictures.
    """
    flat = originals.reshape(len(originals), -1)
    rows = []
    for strength in strengths:
        changed = decode(latent + strength * vector[None])
        row: dict[str, Any] = {"strength": float(strength)}
        if judge is not None:
            row["rate"] = float(np.mean(judge(changed) > 0.5))
        row["same"] = float(np.mean(nearest(changed.reshape(len(changed), -1), flat, 1)[:, 0] == own))
        row["psnr"] = float(np.mean(psnr_of(originals[own], changed)))
        rows.append(row)
    return rows


def mean_effect(sweeps: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Several sweeps over the same strengths as one: the means, and of the rates also the lowest and the highest."""
    rows = []
    for each in zip(*sweeps, strict=True):
        row = {key: float(np.mean([one[key] for one in each])) for key in each[0]}
        if "rate" in row:
            rates = [one["rate"] for one in each]
            row |= {"lowest_rate": min(rates), "highest_rate": max(rates)}
        rows.append(row)
    return rows
