# SPDX-License-Identifier: Apache-2.0
"""What the tests of data sets share: a config section, and folders of small pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.types import Config
from experiments import default


@pytest.fixture
def data() -> Config:
    """A fresh config.data."""
    return default.get_config().data


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """`make_folder({"cat": 3, "dog": 2}, size=(4, 6), mode="RGB")` writes that many PNG files below each name."""

    def make(counts: dict[str, int], size: tuple[int, int] = (4, 6), mode: str = "RGB", root: str = "set") -> Path:
        folder = tmp_path / root
        for number, (name, count) in enumerate(counts.items()):
            (folder / name).mkdir(parents=True)
            for i in range(count):
                shape = (*size, 3) if mode == "RGB" else size
                Image.fromarray(np.full(shape, 40 * number + i, np.uint8)).save(folder / name / f"{i}.png")
        return folder

    return make
