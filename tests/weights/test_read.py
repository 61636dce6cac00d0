# SPDX-License-Identifier: Apache-2.0
"""Files as they should be, and truncated, wrong or hostile ones: refused in one line, nothing in them run."""

import hashlib
import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnjax.errors import RunError, UsageError
from cnnjax.weights.read import read_safetensors, read_weights


def safetensors_file(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_safetensors_by_name(tmp_path):
    path = tmp_path / "w.safetensors"
    stored = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7), "e": np.zeros((0, 2), "f4")}
    save_file(stored, path, metadata={"format": "pt"})
    weights = read_weights(str(path))
    assert weights.tensors.keys() == stored.keys()
    for name, array in stored.items():
        np.testing.assert_array_equal(weights.tensors[name], array)
        assert weights.tensors[name].dtype == array.dtype
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (weights.format, weights.source, weights.notes) == ("safetensors", str(path), ())


def test_half_precision_becomes_float32(tmp_path):
    # bfloat16 is the upper half of a float32: 1.5 is 0x3fc0, -2 is 0xc000.
    header = {
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        "h": {"dtype": "F16", "shape": [2], "data_offsets": [4, 8]},
    }
    data = struct.pack("<2H", 0x3FC0, 0xC000) + np.array([0.5, 3.0], "<f2").tobytes()
    tensors = read_safetensors(safetensors_file(tmp_path / "h.safetensors", header, data))
    np.testing.assert_array_equal(tensors["b"], np.array([1.5, -2.0], np.float32))
    np.testing.assert_array_equal(tensors["h"], np.array([0.5, 3.0], np.float32))
    assert {array.dtype for array in tensors.values()} == {np.dtype(np.float32)}


def test_prefixes_of_wrappers_are_dropped_where_all_names_have_them(tmp_path):
    array = np.zeros(1, np.float32)
    save_file({"module._orig_mod.a": array, "module._orig_mod.b": array}, tmp_path / "all.safetensors")
    weights = read_weights(str(tmp_path / "all.safetensors"))
    assert weights.tensors.keys() == {"a", "b"} and "'module.'" in weights.notes[0]
    save_file({"module.a": array, "b": array}, tmp_path / "some.safetensors")
    assert read_weights(str(tmp_path / "some.safetensors")).tensors.keys() == {"module.a", "b"}


def one_line(path):
    with pytest.raises(RunError) as caught:
        read_weights(str(path))
    text = str(caught.value)
    assert "\n" not in text and path.name in text and len(text) < 400
    return text


def test_damaged_safetensors_are_refused(tmp_path):
    whole = tmp_path / "whole.safetensors"
    save_file({"a": np.arange(100, dtype=np.float32)}, whole)
    content = whole.read_bytes()
    for cut in (len(content) - 1, len(content) // 2, 20, 8):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(content[:cut])
        assert "damaged" in one_line(path)
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    hostile = {
        "huge header": struct.pack("<Q", 2**63) + b"{}",
        "header beyond the file": struct.pack("<Q", 10**6) + b"{}",
        "no json": struct.pack("<Q", 4) + b"{{{{",
        "beyond the data": None,
    }
    for content in hostile.values():
        path = tmp_path / "bad.safetensors"
        if content is None:
            safetensors_file(path, {"a": {**entry, "data_offsets": [0, 800], "shape": [200]}}, b"\0" * 8)
        else:
            path.write_bytes(content)
        assert "damaged" in one_line(path)
    overlap = {"a": entry, "b": entry}
    assert "damaged" in one_line(safetensors_file(tmp_path / "overlap.safetensors", overlap, b"\0" * 8))
    lies = {"a": {**entry, "shape": [2**40]}}
    assert "damaged" in one_line(safetensors_file(tmp_path / "lies.safetensors", lies, b"\0" * 8))
    small = {"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}
    assert "F8_E4M3" in one_line(safetensors_file(tmp_path / "small.safetensors", small, b"\0\0"))


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    assert "folder" in one_line(tmp_path)
    for name, content in {"empty.pth": b"", "text.bin": b"hello world, no weights here", "e.safetensors": b""}.items():
        (tmp_path / name).write_bytes(content)
        one_line(tmp_path / name)
    save_file({}, tmp_path / "none.safetensors")
    assert "no tensors" in one_line(tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match=r"no file .*gone\.safetensors"):
        read_weights(str(tmp_path / "gone.safetensors"))
