# SPDX-License-Identifier: Apache-2.0
import numpy as np
from PIL import Image

from cnnjax.report.reconstructions import plot_reconstructions, write_strip


def test_the_picture_stands_left_of_its_reconstruction(tmp_path):
    images = np.full((1, 4, 4, 3), (255, 0, 0), np.uint8)
    recons = np.full((1, 4, 4, 3), (0.0, 2.0, -1.0))  # beyond the range: green
    plot_reconstructions(images, recons, ["a"], tmp_path / "sheet.png", title="both")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    red, green = (np.argwhere((pixels == color).all(axis=-1)) for color in ((255, 0, 0), (0, 255, 0)))
    assert len(red) == len(green) > 100
    assert red[:, 1].max() < green[:, 1].min() and red[:, 0].min() == green[:, 0].min()


def test_a_strip_has_reconstructions_below_and_each_dot_magnified(tmp_path):
    images = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 1)
    write_strip(images, 1 - images / 255, tmp_path / "made" / "strip.png")
    pixels = np.asarray(Image.open(tmp_path / "made" / "strip.png"))
    assert pixels.shape == (2 * 64, 2 * 64)
    np.testing.assert_array_equal(pixels[:64:16, ::16], np.concatenate(list(images[..., 0]), axis=1))
    np.testing.assert_array_equal(pixels[64::16, ::16], 255 - np.concatenate(list(images[..., 0]), axis=1))
    np.testing.assert_array_equal(pixels[:16, :16], images[0, 0, 0, 0])
