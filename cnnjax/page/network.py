# SPDX-License-Identifier: Apache-2.0
"""The network itself: its layers in a table, and what its first layer looks for."""

import math
from typing import Any

import numpy as np

from cnnjax.inspect.summary import Summary
from cnnjax.page.document import Section, note
from cnnjax.page.html import Html, element, table
from cnnjax.page.pictures import data_uri, grid
from cnnjax.report.table import format_count
from cnnjax.types import Params

_MAX_FILTERS = 128
_MAX_SIDE = 64  # pixels of a filter


def network_section(summary: Summary) -> Section:
    """The layers with shapes, parameters, multiply-adds and receptive fields."""
    rows: list[tuple[object, ...]] = [
        (
            element("code", layer.name),
            layer.type,
            "×".join(map(str, layer.output_shape)) or "-",
            format_count(layer.params),
            format_count(layer.macs),
            _pair(layer.receptive_field.size) if layer.receptive_field else "-",
            _pair(layer.receptive_field.jump) if layer.receptive_field else "-",
        )
        for layer in summary.layers
    ]
    rows.append(("total", "", "", format_count(summary.params), format_count(summary.macs), "", ""))
    classes = [None] * len(summary.layers) + ["total"]
    header = ("layer", "type", "output", "parameters", "multiply-adds", "receptive field", "jump")
    drawn = table(header, rows, "lllrrrr", caption="Layers of the network", row_classes=classes, tall=len(rows) > 40)
    shape = "×".join(map(str, summary.input_shape))
    words = (
        f"For one image of {shape}. A neuron sees as many pixels as its receptive field, its neighbour those a jump on."
    )
    return Section("network", "Network", (note(words), drawn))


def _pair(pair: tuple[Any, Any]) -> str:
    height, width = ("-" if n is None else f"{n:.4g}" if n % 1 else f"{n:,}" for n in pair)
    return height if height == width else f"{height}×{width}"


def first_filters(summary: Summary, params: Params, image_shape: tuple[int, int, int]) -> tuple[str, np.ndarray] | None:
    """The first layer's name and kernels as pictures, float [n,h,w,C], C 1 or 3.

    A dense layer's kernels are shown in the shape of the image. None where the first layer's kernel is not found under
    its name, or has other channels than a picture.
    """
    layer = next((layer for layer in summary.layers if layer.type in ("conv", "dense")), None)
    if layer is None:
        return None
    node: Any = params
    for part in (*layer.name.split("/"), "kernel"):
        if not hasattr(node, "get") or node.get(part) is None:
            return None
        node = node[part]
    kernel = np.asarray(node, np.float32)
    if kernel.ndim == 2 and len(kernel) == math.prod(image_shape):
        kernel = kernel.reshape(*image_shape, -1)
    if kernel.ndim != 4 or kernel.shape[2] not in (1, 3):
        return None
    return layer.name, np.moveaxis(kernel, 3, 0)


def filters_section(name: str, kernels: np.ndarray) -> Section:
    """Kernels [n,h,w,C] as pictures: gray is 0, each filter's largest weight is black or white (or full colour)."""
    shown = kernels[:_MAX_FILTERS]
    largest = np.abs(shown).max(axis=(1, 2, 3), keepdims=True)
    pixels = np.rint(127.5 + 127.5 * shown / np.maximum(largest, 1e-12)).astype(np.uint8)
    n, height, width, channels = shown.shape
    columns = min(n, 8 if n <= 32 else 16 if max(height, width) <= 16 else 10)
    # Where a filter has few pixels each is drawn larger, so that the gaps stay thin.
    zoom = max(_MAX_SIDE // max(height, width) // 2, 1)
    tiles = [np.kron(tile, np.ones((zoom, zoom, 1), np.uint8)) for tile in pixels]
    uri = data_uri(grid(tiles, columns, gap=max(zoom // 2, 1)))
    told = f"The {n} filters of {name}, {height} by {width} weights each"
    picture: Html = element(
        "img", src=uri, alt=told, class_="filters pixels", style=f"width:min(100%,{columns * 60}px)"
    )
    part = f", the first {n} of {len(kernels)}" if n < len(kernels) else ""
    kind = "in colour, " if channels == 3 else ""
    words = f"{name}: {height}×{width} weights each, {kind}gray where 0, scaled to its largest weight each{part}."
    return Section("filters", "First layer", (note(words), picture))
