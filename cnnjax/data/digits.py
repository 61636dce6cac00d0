# SPDX-License-Identifier: Apache-2.0
"""The 1,797 handwritten digits, 8x8 gray, that come with scikit-learn: real data without a network.

Reference: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998 (its test set).
"""

import importlib.util
import pathlib

import numpy as np

from cnnjax.data.carve import WHOLE
from cnnjax.errors import RunError
from cnnjax.types import Config, Records, Source


def load_source(name: str, data: Config) -> Source:
    """The digits as one split, "all": uint8 [8,8], labels 0..9.

    Stored values are 0..16 (dark pixels of a 4x4 block); v becomes 255 v / 16, rounded, halves up.
    """
    del name, data
    table = _table()
    image = ((table[:, :64].reshape(-1, 8, 8) * 255 + 8) // 16).astype(np.uint8)
    label = table[:, 64]
    records = Records(len(image), lambda i: (image[i], int(label[i])), lambda i: f"digits[{i}]")
    return Source("digits", tuple("0123456789"), {WHOLE: records}, "digits-1")


def _table() -> np.ndarray:
    """[1797,65] int64: 64 pixels, then the label."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise RunError("the source 'digits' needs scikit-learn, which is not installed; run: pip install scikit-learn")
    # The file is read in place because importing scikit-learn takes seconds, a third of a short training run.
    file = pathlib.Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.exists():
        return np.loadtxt(file, delimiter=",", dtype=np.int64)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target]).astype(np.int64)  # type: ignore[attr-defined]
