# SPDX-License-Identifier: Apache-2.0
"""3x3 convolutions with a quarter of the multiplications: Winograd's minimal filtering, F(4x4, 3x3).

Four neighbouring results of three taps need six products, not twelve, if map, taps and results pass through small
matrices; along both axes that is 36 in place of 144 (Lavin and Gray 2016, arXiv:1509.09308, section 4.3). What is left
in the middle is a matrix product over the channels for each of the 6x6 places in a tile. The transforms go through the
rows first and then, for each of the six sums of rows, through its columns. The kernel gradient is the derivative of
these steps, with as few products.

The price is rounding: in float32 about 1e-5 of the largest result, where a direct convolution has 1e-6.
`CNNJAX_WINOGRAD=0` in the environment leaves it out.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.layers.lowering.geometry import Geometry
from cnnjax.layers.lowering.products import matmul
from cnnjax.types import Array

_SWITCH = "CNNJAX_WINOGRAD"
_TILE = 4  # results of a tile along an axis; it reads two pixels more

# The paper's B^T, A^T and G: what the pixels of a tile, its six products and the three taps pass through.
_PIXELS = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_RESULTS = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
_TAPS = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24

_TOGETHER = 2**21  # numbers of the map, or of the result, that are worked on at a time


def takes(geometry: Geometry) -> bool:
    """Whether a convolution can be computed so: 3x3 taps and all windows side by side, one group."""
    dense = geometry.stride == geometry.dilation == (1, 1) and geometry.groups == 1
    return dense and geometry.kernel_size == (3, 3) and os.environ.get(_SWITCH) != "0"


def forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """[B,H,W,C] and [3,3,C,F] to [B,H',W',F]."""
    return _convolve(x, kernel, geometry, kernel.shape[3], matmul)


def input_gradient(gradient: Array, kernel: Array, geometry: Geometry) -> Array:
    """[B,H',W',F] and [3,3,C,F] to [B,H,W,C]; of a geometry that can be mirrored."""
    mirrored = geometry.mirrored()
    assert mirrored is not None
    # Turned round, but not transposed: the products read it either way, and transposing costs more than they do.
    transposed = partial(matmul, transpose_b=True)
    return _convolve(gradient, kernel[::-1, ::-1], mirrored, kernel.shape[2], transposed)


def _convolve(
    x: Array, kernel: Array, geometry: Geometry, features: int, product: Callable[[Array, Array], Array]
) -> Array:
    height, width = geometry.output
    taps = [_stack(_combine(_TAPS, row)) for row in _combine(_TAPS, kernel)]  # six of [6,C,F], or [6,F,C]

    def convolve(x: Array) -> Array:
        rows = []
        for places, row_taps in zip(_places(x, geometry), taps, strict=True):
            products = product(places.reshape(6, -1, x.shape[-1]), row_taps)
            products = products.reshape(*places.shape[:-1], features)
            rows.append(_side_by_side(_combine(_RESULTS, products), 2))
        return _side_by_side(_combine(_RESULTS, rows), 1)[:, :height, :width]

    parts = _parts(x, features, geometry)
    if parts == 1:
        return convolve(x)
    return jax.lax.map(convolve, _split(x, parts)).reshape(x.shape[0], height, width, features)


def kernel_gradient(x: Array, gradient: Array, geometry: Geometry) -> Array:
    """[B,H,W,C] and [B,H',W',F] to [3,3,C,F]."""

    def products(x: Array, gradient: Array) -> list[Array]:
        """The gradients by the six planes of taps of `forward`, each [6,C,F]."""
        short = [-n % _TILE for n in geometry.output]
        whole = jnp.pad(gradient, ((0, 0), (0, short[0]), (0, short[1]), (0, 0)))
        rows = _combine(_RESULTS.T, _every_fourth(whole, 1, _TILE))
        results = (_stack(_combine(_RESULTS.T, _every_fourth(row, 2, _TILE))) for row in rows)
        return [
            matmul(places.reshape(6, -1, x.shape[-1]), result.reshape(6, -1, gradient.shape[-1]), transpose_a=True)
            for places, result in zip(_places(x, geometry), results, strict=True)
        ]

    parts = _parts(x, gradient.shape[-1], geometry)
    if parts == 1:
        planes = products(x, gradient)
    else:
        zeros = [jnp.zeros((6, x.shape[-1], gradient.shape[-1]), x.dtype)] * 6
        planes, _ = jax.lax.scan(
            lambda total, part: (jax.tree.map(jnp.add, total, products(*part)), None),
            zeros,
            (_split(x, parts), _split(gradient, parts)),
        )
    columns = [_stack(_combine(_TAPS.T, plane)) for plane in planes]
    return _stack(_combine(_TAPS.T, columns))


def _places(x: Array, geometry: Geometry) -> list[Array]:
    """Of a map [B,H,W,C], for each of the six sums of a tile's rows the six of its columns, [6,B,tiles,tiles,C]."""
    tiles = [-(-n // _TILE) for n in geometry.output]
    read = [_TILE * n + 2 for n in tiles]
    lows = [low for low, _ in geometry.sides]
    # Where windows leave the last pixels out, the tiles do too: padding may be negative.
    sides = [(low, far - low - size, 0) for low, far, size in zip(lows, read, geometry.size, strict=True)]
    padded = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *sides, (0, 0, 0)])
    rows = _combine(_PIXELS, _every_fourth(padded, 1, 6, tiles[0]))
    return [_stack(_combine(_PIXELS, _every_fourth(row, 2, 6, tiles[1]))) for row in rows]


def _every_fourth(x: Array, axis: int, count: int, tiles: int | None = None) -> list[Array]:
    """`count` slices along an axis: the first numbers of all tiles, the second ones, and so on."""
    span = _TILE * (x.shape[axis] // _TILE if tiles is None else tiles)
    return [jax.lax.slice_in_dim(x, i, i + span - _TILE + 1, _TILE, axis) for i in range(count)]


def _side_by_side(parts: Sequence[Array], axis: int) -> Array:
    """The reverse of `_every_fourth`: [..., tiles, ...] four times to [..., 4 * tiles, ...]."""
    shape = list(parts[0].shape)
    shape[axis] *= len(parts)
    return _stack(parts, axis + 1).reshape(shape)


def _combine(matrix: np.ndarray, parts: Sequence[Array] | Array) -> list[Array]:
    """The sums that a matrix [M,N] makes of N arrays, without the terms that are nothing."""
    slices = list(parts)  # of an array: once, not for each row
    return [_sum([(float(c), part) for c, part in zip(row, slices, strict=True) if c]) for row in matrix]


def _sum(terms: Sequence[tuple[float, Array]]) -> Array:
    # By jax.lax: there are thousands of these terms; what jax.numpy adds to each is a sixth of ResNet-50's lowering.
    scaled = (part if factor == 1 else jax.lax.mul(part, part.dtype.type(factor)) for factor, part in terms)
    return reduce(jax.lax.add, scaled)


def _stack(parts: Sequence[Array], axis: int = 0) -> Array:
    return jax.lax.concatenate([jax.lax.expand_dims(part, (axis,)) for part in parts], axis)


def _parts(x: Array, features: int, geometry: Geometry) -> int:
    """In how many parts the images are taken: as few as divide them and stay within `_TOGETHER`."""
    height, width = geometry.output
    one = max(x[0].size, height * width * features)
    return next(n for n in range(1, len(x) + 1) if len(x) % n == 0 and (len(x) // n * one <= _TOGETHER or n == len(x)))


def _split(x: Array, parts: int) -> Array:
    return x.reshape(parts, -1, *x.shape[1:])
