# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnjax.errors import RunError
from cnnjax.report import figure
from cnnjax.report.sheet import contact_sheet

RNG = np.random.default_rng(0)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def place_of(picture: np.ndarray, sheet: np.ndarray) -> tuple[int, int]:
    """(top, left) of the only place where the picture [h,w,3] stands in the sheet, pixel for pixel."""
    height, width, _ = picture.shape
    found = []
    for top, left in np.argwhere((sheet == picture[0, 0]).all(axis=2)):
        if np.array_equal(sheet[top : top + height, left : left + width], picture):
            found.append((int(top), int(left)))
    assert len(found) == 1
    return found[0]


def magnified(image: np.ndarray, factor: int) -> np.ndarray:
    return np.broadcast_to(image, (*image.shape[:2], 3)).repeat(factor, axis=0).repeat(factor, axis=1)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of the figures as they are saved."""
    found: list[str] = []
    save = figure.Figure.savefig

    def spy(drawn: Any, *args: Any, **kwargs: Any) -> Any:
        found.extend(text.get_text() for axes in drawn.axes for text in axes.texts)
        return save(drawn, *args, **kwargs)

    monkeypatch.setattr(figure.Figure, "savefig", spy)
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_small_pictures_are_magnified_by_a_whole_number_in_rows(tmp_path: Path, channels: int):
    images = RNG.integers(0, 256, (5, 28, 28, channels)).astype(np.uint8)
    path = tmp_path / "sheet.png"
    contact_sheet(images, list("abcde"), columns=3, path=path, title="letters")
    sheet = pixels(path)
    places = [place_of(magnified(image, 7), sheet) for image in images]  # 200 // 28
    tops, lefts = [y for y, _ in places], [x for _, x in places]
    assert tops[0] == tops[1] == tops[2] < tops[3] == tops[4]
    assert lefts[0] < lefts[1] < lefts[2] and lefts[3:] == lefts[:2]
    assert tops[3] - tops[0] > 7 * 28 + 24 and lefts[1] - lefts[0] > 7 * 28


def test_large_pictures_are_reduced(tmp_path: Path):
    path = tmp_path / "sheet.png"
    contact_sheet(np.zeros((2, 1000, 500, 3), np.uint8), ["a", "b"], columns=2, path=path)
    height, width, _ = pixels(path).shape
    assert height < 400 and width < 450
    assert (pixels(path) == 0).all(axis=2).sum() == pytest.approx(2 * 320 * 160, rel=0.01)


def test_captions_have_lines_and_long_ones_lose_their_middle(tmp_path: Path, texts: list[str]):
    long = "a_class_with_a_name_that_is_much_longer_than_its_picture"
    path = tmp_path / "sheet.png"
    captions = ["cat", f"epoch 0\n62% {long}", "$x^2$ 100%\n\n"]
    contact_sheet(np.zeros((3, 8, 8, 1), np.uint8), captions, columns=9, path=path, title=f"title {long * 3}")
    assert {"cat", "epoch 0", "$x^2$ 100%"} <= set(texts)
    short = [text for text in texts if "…" in text]
    assert len(short) == 2
    assert any(text.startswith("62% a_cl") and text.endswith("picture") for text in short)


def test_more_lines_make_higher_cells(tmp_path: Path):
    images = np.zeros((1, 8, 8, 1), np.uint8)
    heights = []
    for caption in ("one", "one\ntwo", "one\ntwo\nthree"):
        contact_sheet(images, [caption], columns=1, path=tmp_path / "sheet.png")
        heights.append(pixels(tmp_path / "sheet.png").shape[0])
    assert heights[1] - heights[0] == heights[2] - heights[1] == 24


def test_pictures_and_captions_must_match(tmp_path: Path):
    for count in (0, 2):
        with pytest.raises(ValueError, match=f"{count} images and 1 captions"):
            contact_sheet(np.zeros((count, 8, 8, 1), np.uint8), ["a"], columns=1, path=tmp_path / "sheet.png")


def test_a_place_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError):
        contact_sheet(np.zeros((1, 8, 8, 1), np.uint8), ["a"], columns=1, path=tmp_path / "file" / "sheet.png")
