# SPDX-License-Identifier: Apache-2.0
"""Ready-made kernels of image processing, and a picture convolved with one."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import UsageError, unknown
from cnnjax.layers.conv import conv2d

Rows = tuple[tuple[float, ...], ...]
"""A kernel as rows of numbers."""

_BINOMIAL = (1, 4, 6, 4, 1)  # over 16: a Gaussian of deviation 1 in whole numbers

KERNELS: dict[str, Rows] = {
    "box_blur": ((1 / 9,) * 3,) * 3,
    "edge_4": ((0, -1, 0), (-1, 4, -1), (0, -1, 0)),  # four neighbours: minus the Laplacian
    "edge_4_negative": ((0, 1, 0), (1, -4, 1), (0, 1, 0)),  # its negative shows the other side of each edge
    "edge_8": ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),  # eight neighbours: diagonal edges as well
    "emboss": ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
    "gaussian": tuple(tuple(a * b / 256 for b in _BINOMIAL) for a in _BINOMIAL),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),  # the picture plus edge_4
    "sobel_x": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),  # brighter to the right
    "sobel_y": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),  # brighter downwards
}

EDGES = {"replicate": "edge", "reflect": "reflect", "zero": "constant"}
"""What stands in beyond the border, and numpy's name of it: the border's own pixels, their mirror image, or black."""


def apply_filter(image: np.ndarray, kernel: str | Rows | np.ndarray, *, edge: str = "replicate") -> np.ndarray:
    """A picture convolved with a kernel, each channel by itself; the size stays.

    As in every convolutional layer the kernel is not flipped (cross-correlation). Of an even kernel the odd row and
    column reach down and to the right.

    Args:
      image: [H,W,C], uint8 or floating-point, in 0..255.
      kernel: a name of KERNELS, or [h,w] numbers.
      edge: a name of EDGES, for the pixels beyond the border.

    Returns:
      [H,W,C] in 0..255: results beyond are clipped. uint8 (rounded) for uint8, else float32.

    Raises:
      UsageError: an unknown name, a kernel that is no matrix of finite numbers, or one larger than the picture.
    """
    if isinstance(kernel, str):
        if kernel not in KERNELS:
            raise UsageError(unknown("kernel", kernel, KERNELS))
        kernel = KERNELS[kernel]
    if edge not in EDGES:
        raise UsageError(unknown("edge", edge, EDGES))
    weights = np.asarray(kernel, np.float32)
    if weights.ndim != 2 or not weights.size or not np.isfinite(weights).all():
        raise UsageError(f"a kernel is rows of finite numbers, all of one length, not an array {weights.shape}")
    height, width = weights.shape
    if height > image.shape[0] or width > image.shape[1]:
        raise UsageError(
            f"the kernel is {height}x{width} and the picture {image.shape[0]}x{image.shape[1]} pixels; "
            "take a larger picture or a smaller kernel"
        )
    top, left = (height - 1) // 2, (width - 1) // 2
    around = ((top, height - 1 - top), (left, width - 1 - left), (0, 0))
    padded = np.pad(image.astype(np.float32), around, EDGES[edge])  # pyright: ignore[reportArgumentType, reportCallIssue]
    maps = jnp.moveaxis(jnp.asarray(padded), 2, 0)[..., None]  # [C,H,W,1]: a channel is a map by itself
    with jax.default_matmul_precision("highest"):  # pixels are whole numbers up to 255: no device may round them
        filtered = conv2d(maps, jnp.asarray(weights)[:, :, None, None])
    pixels = np.clip(np.moveaxis(np.asarray(filtered)[..., 0], 0, 2), 0, 255)
    return np.rint(pixels).astype(np.uint8) if image.dtype == np.uint8 else pixels
