# SPDX-License-Identifier: Apache-2.0
"""Files of weights: the arrays that are in them, or a reason; nothing in them runs."""

import importlib
import importlib.util
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import save

from cnnjax.weights.data import parse_shape, read_labels
from cnnjax.weights.hub import parse_source
from cnnjax.weights.names import recognise
from cnnjax.weights.read import read_weights
from tests.fuzz.tools import anything, bounded, fuzz, hostile_json

SOUND = save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.c": np.ones(4, np.float16)})
SIDES = st.sampled_from((0, 1, 2, 3, 2**31, 2**40, 2**62, 2**63, -1, 1.5, "2", None))
DTYPES = st.sampled_from(("F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "C64", "f32", 3))
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the group peers")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights") / "x.safetensors"


@st.composite
def safetensors(draw: Any) -> bytes:
    """A header of any entries before a few bytes."""
    data = draw(st.binary(max_size=32))
    names = draw(
        st.lists(st.sampled_from(("a", "b", "", "a\n\x1b[31m", "__metadata__", "\ud800", "x" * 200)), max_size=3)
    )
    header = {}
    for name in names:
        start = draw(st.sampled_from((0, 0, 4, 8, len(data), -1, 2**63)))
        end = draw(st.sampled_from((0, 4, 8, len(data), len(data), 2**63)))
        shape = draw(st.one_of(st.lists(SIDES, max_size=4), st.just([len(data) // 4]), st.just([0, 2**40, 2**40])))
        header[name] = {"dtype": draw(DTYPES), "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", draw(st.sampled_from((len(text), len(text), len(text) + 8, 2**63)))) + text + data


@fuzz(2, content=st.one_of(anything(SOUND), safetensors()))
def test_safetensors(file: Path, content: bytes):
    file.write_bytes(content)
    with bounded():
        tensors = read_weights(str(file)).tensors
        assert sum(array.nbytes for array in tensors.values()) <= 2 * len(content)


@fuzz(
    content=hostile_json({"a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}, "__metadata__": {"k": "v"}})
)
def test_the_header_of_safetensors(file: Path, content: bytes):
    file.write_bytes(struct.pack("<Q", len(content)) + content + bytes(8))
    with bounded():
        assert all(array.nbytes <= 8 for array in read_weights(str(file)).tensors.values())


class Harm:
    """Unpickling it makes a folder."""

    def __init__(self, place: str):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (self.place,)


def saved(content: Any, *, legacy: bool) -> bytes:
    torch: Any = importlib.import_module("torch")
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def rezipped(content: bytes, **changes: Any) -> bytes:
    """The archive with its members changed: a function of the bytes by the end of their name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.infolist():
            change = next((do for end, do in changes.items() if member.filename.endswith(end)), bytes)
            new.writestr(member.filename, change(old.read(member)))
    return buffer.getvalue()


@needs_torch
def test_files_of_pytorch(tmp_path: Path):
    """The pickle inside is changed as well, and one that calls a function is among the sound ones."""
    torch: Any = importlib.import_module("torch")
    harm = tmp_path / "harm"
    state = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4).half()}
    contents = [saved(state, legacy=legacy) for legacy in (False, True)]
    contents += [saved({"state_dict": state, "args": Harm(str(harm))}, legacy=legacy) for legacy in (False, True)]
    contents += [pickle.dumps(Harm(str(harm)), protocol) for protocol in (2, 4)]
    path = tmp_path / "x.pth"

    @fuzz(content=anything(*contents), inner=anything(*(pick for pick in map(_pickle_of, contents[:1]))))
    def check(content: bytes, inner: bytes) -> None:
        for each in (content, rezipped(contents[0], **{"data.pkl": lambda _: inner})):
            path.write_bytes(each)
            with bounded():
                tensors = read_weights(str(path)).tensors
                assert sum(array.nbytes for array in tensors.values()) <= 4 * len(each)
            assert not harm.exists()

    check()


def _pickle_of(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))


@needs_torch
def test_a_bomb_of_pytorch_is_refused(tmp_path: Path):
    torch: Any = importlib.import_module("torch")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(2**24))
    (tmp_path / "zip.pth").write_bytes(packed.getvalue())
    with pytest.raises(RuntimeError, match=r"zip\.pth unpacks to 16,777,216 bytes; refused"):
        read_weights(str(tmp_path / "zip.pth"))
    torch.save({"w": torch.zeros(1).expand(2**40)}, tmp_path / "repeated.pth")
    with pytest.raises(RuntimeError, match="w repeats its numbers"):
        read_weights(str(tmp_path / "repeated.pth"))


@fuzz(content=anything(b"cat\ndog\ncat\n", "\ufeffKatze\nHünd\n".encode()))
def test_names_of_classes(file: Path, content: bytes):
    path = file.with_name("labels.txt")
    path.write_bytes(content)
    with bounded():
        names = read_labels(path)
        assert len(set(names)) == len(names) > 0


@fuzz(
    text=st.one_of(
        st.text(max_size=30), st.from_regex(r"(hf:)?[\w./-]{0,12}(@[\w]{0,4})?(:[\w./]{0,8})?", fullmatch=True)
    )
)
def test_sources_and_shapes(text: str):
    with bounded():
        parse_source(text)
    with bounded():
        assert all(side > 0 for side in parse_shape(text))


@fuzz(names=st.lists(st.sampled_from(("fc.weight", "conv1.weight", "a", "layer1.0.conv1.weight", "params.x", "\n"))))
def test_names_of_tensors(names: list[str]):
    leaves = {"params.output.kernel": np.zeros((2, 3)), "params.stem_conv.kernel": np.zeros((3, 3, 1, 2))}
    with bounded():
        assert recognise(leaves, names) in ("torchvision", "timm", "chenyaofo", "akamaster", "native")
