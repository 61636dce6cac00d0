# SPDX-License-Identifier: Apache-2.0
"""The rate of large matrix products: what a network's multiply-adds are measured against."""

import time
from typing import Any

import jax
import jax.numpy as jnp

SIDES = {"cpu": (1024, 2048)}  # of square matrices; the better counts
LARGE = (4096, 8192)  # on accelerators
REPEATS = 5


def matrix_product_peak(dtype: Any, sides: tuple[int, ...] | None = None) -> float:
    """Multiply-adds a second of the best square matrix product in `dtype`, on all devices together.

    Args:
      dtype: float32 or bfloat16; of a float32 product an accelerator may round the factors (TF32), as it does for
        the networks.
      sides: of the matrices; None: by the backend.
    """
    devices = jax.devices()
    if devices[0].platform == "cpu":
        devices = devices[:1]  # one device has all cores; several of them are pretended
    best = 0.0
    multiply = jax.jit(jnp.matmul)
    for side in sides or SIDES.get(devices[0].platform, LARGE):
        factors = [jax.device_put(jnp.full((side, side), 1 / side, dtype), device) for device in devices]
        jax.block_until_ready([multiply(factor, factor) for factor in factors])
        for _ in range(REPEATS):
            start = time.perf_counter()
            jax.block_until_ready([multiply(factor, factor) for factor in factors])
            best = max(best, side**3 * len(devices) / (time.perf_counter() - start))
    return best
