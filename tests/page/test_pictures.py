# SPDX-License-Identifier: Apache-2.0
"""Pictures become data URIs that hold what they held."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cnnjax.page.pictures import data_uri, embed_file, grid, reduced


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_small_pictures_are_exact(channels: int):
    image = np.random.default_rng(0).integers(0, 256, (8, 9, channels), np.uint8)
    uri = data_uri(image)
    assert uri.startswith("data:image/png;base64,")
    np.testing.assert_array_equal(decoded(uri).reshape(image.shape), image)


def test_large_pictures_are_jpeg():
    assert data_uri(np.zeros((100, 100, 3), np.uint8)).startswith("data:image/jpeg")


def test_reduced_keeps_proportions_and_channels():
    assert reduced(np.zeros((100, 50, 1), np.uint8), 20).shape == (20, 10, 1)
    assert reduced(np.zeros((4, 4, 2), np.uint8), 20).shape == (4, 4, 1)
    assert reduced(np.zeros((4, 4, 5), np.uint8), 20).shape == (4, 4, 3)
    image = np.zeros((10, 5, 3), np.uint8)
    assert reduced(image, 20) is image


def test_a_grid_is_clear_between_its_pictures():
    sheet = grid([np.full((2, 2, 1), 7, np.uint8)] * 3, columns=2, gap=1)
    assert sheet.shape == (5, 5, 4)
    assert sheet[:, 2, 3].max() == 0 and sheet[0, 0].tolist() == [7, 7, 7, 255] and sheet[4, 4, 3] == 0


def test_a_heavy_file_is_reduced(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (700, 2400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 4_000_000
    assert max(decoded(embed_file(tmp_path / "a.png")).shape) == 1800
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(OSError):
        embed_file(tmp_path / "b.png")
