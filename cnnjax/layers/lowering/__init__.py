# SPDX-License-Identifier: Apache-2.0
"""Convolution and its two gradients as operations of their own, each lowered as suits backend and shape.

`geometry` says how a convolution moves, `operations` are the primitives that jax differentiates, batches and lowers,
`abreast`, `native`, `onednn`, `products`, `whole` and `winograd` are ways to compute them, and `choice` picks among
them on a CPU. docs/convolution.md has the measurements.
"""

from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.layers.lowering.operations import convolve

__all__ = ["Geometry", "convolve"]
