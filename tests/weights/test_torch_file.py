# SPDX-License-Identifier: Apache-2.0
"""PyTorch's files, in both formats; none of them may run code. What PyTorch is not there for is said."""

import importlib.util
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from cnnjax.errors import RunError
from cnnjax.weights.read import read_weights

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the group peers")


class Hostile:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def save(content, path, *, legacy):
    import torch  # pyright: ignore[reportMissingImports]

    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return str(path)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is there")
def test_without_pytorch_the_remedy_is_named(tmp_path):
    for name, content in {"zip.pth": b"PK\x03\x04" + b"\0" * 30, "legacy.th": b"\x80\x02\x8a\x0al\xfc"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RunError, match=r"needs PyTorch: uv run --group peers run\.py import-weights"):
            read_weights(str(tmp_path / name))


@needs_torch
@pytest.mark.parametrize("legacy", [False, True])
def test_the_dict_of_tensors_is_found(tmp_path, legacy):
    import torch  # pyright: ignore[reportMissingImports]

    inner = OrderedDict({"module.w": torch.arange(6.0).reshape(2, 3).T, "module.h": torch.tensor([1.5]).bfloat16()})
    weights = read_weights(save(inner, tmp_path / "plain.pth", legacy=legacy))
    np.testing.assert_array_equal(weights.tensors["w"], np.arange(6.0).reshape(2, 3).T)
    assert weights.tensors["h"].dtype == np.float32 and weights.format == "pytorch"
    for key in ("state_dict", "model", "model_state", "net", "whatever"):
        content = {"epoch": 3, "best_prec1": 91.25, key: inner, "optimizer": {"lr": 0.1}}
        weights = read_weights(save(content, tmp_path / f"{key}.th", legacy=legacy))
        assert weights.tensors.keys() == {"w", "h"}
        assert f"entry {key!r}" in weights.notes[0] and "'module.'" in weights.notes[1]
    weights = read_weights(save({**inner, "epoch": 4}, tmp_path / "beside.pth", legacy=legacy))
    assert weights.tensors.keys() == {"w", "h"} and "left out: epoch" in weights.notes[0]


@needs_torch
@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_in_a_file_is_run(tmp_path, legacy):
    import torch  # pyright: ignore[reportMissingImports]

    harm = tmp_path / "harm"
    path = save({"state_dict": {"w": torch.zeros(2)}, "args": Hostile(harm)}, tmp_path / "bad.pth", legacy=legacy)
    with pytest.raises(RunError, match=r"(posix|nt)\.system.*refused, nothing in it was run") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value) and not harm.exists()
    # The file would do harm to whoever trusts it: the test tests something.
    torch.load(path, weights_only=False)
    assert harm.exists()


@needs_torch
def test_a_bare_pickle_is_not_run_either(tmp_path):
    harm = tmp_path / "harm"
    for protocol in (2, 4, 5):
        path = tmp_path / "pickle.pt"
        path.write_bytes(pickle.dumps(Hostile(harm), protocol))
        with pytest.raises(RunError, match=r"pickle\.pt"):
            read_weights(str(path))
        assert not harm.exists()


@needs_torch
def test_damaged_files_and_other_content_are_refused_in_a_line(tmp_path):
    import torch  # pyright: ignore[reportMissingImports]

    for legacy in (False, True):
        path = tmp_path / "whole.pth"
        save({"w": torch.zeros(500)}, path, legacy=legacy)
        content = path.read_bytes()
        for cut in (len(content) - 5, len(content) // 2, 30):
            (tmp_path / "cut.pth").write_bytes(content[:cut])
            with pytest.raises(RunError) as caught:
                read_weights(str(tmp_path / "cut.pth"))
            assert "\n" not in str(caught.value) and "cut.pth" in str(caught.value)
    for what, sentence in (
        (torch.zeros(3), "holds a Tensor"),
        ({"epoch": 3}, "no dict of tensors .* epoch"),
        ({"w": torch.zeros(2, 2).to_sparse()}, "w is sparse"),
    ):
        with pytest.raises(RunError, match=sentence):
            read_weights(save(what, tmp_path / "other.pth", legacy=False))
