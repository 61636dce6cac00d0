# SPDX-License-Identifier: Apache-2.0
"""IDX, CIFAR binary, gzip and tar: the arrays that the bytes hold, or a reason."""

import gzip
import io
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from cnnjax.data import rawformats
from cnnjax.data.rawformats import parse_cifar, parse_idx, read_bytes, read_tar
from tests.fuzz.tools import anything, bounded, fuzz

NAME = "data_batch_1.bin"
SIDES = st.sampled_from((0, 1, 2, 3, 4, 255, 65536, 2**31, 2**32 - 1))


@st.composite
def idx(draw: Any) -> bytes:
    sides = draw(st.lists(SIDES, min_size=1, max_size=4))
    magic = draw(st.sampled_from((0x0801, 0x0803, 0x0D03, 0)))
    return struct.pack(f">{1 + len(sides)}I", magic, *sides) + draw(st.binary(max_size=64))


@fuzz(content=st.one_of(idx(), anything(struct.pack(">4I", 0x0803, 2, 3, 4) + bytes(24))), axes=st.sampled_from((1, 3)))
def test_idx(content: bytes, axes: int):
    with bounded():
        array = parse_idx(Path("x"), content, axes)
        assert array.ndim == axes and array.tobytes() == content[4 + 4 * axes :]


@fuzz(
    length=st.one_of(st.integers(0, 10_000), st.sampled_from((3073, 3074, 6146, 6148))), labels=st.sampled_from((1, 2))
)
def test_cifar(length: int, labels: int):
    with bounded():
        content = np.random.default_rng(length).bytes(length)
        image, label = parse_cifar(Path("x"), content, labels)
        assert len(image) == len(label) == length / (3072 + labels)
        assert image[0, 0, 1, 2] == content[labels + 2 * 1024 + 1] and label[0] == content[labels - 1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raw")


@fuzz(content=anything(gzip.compress(bytes(1000), mtime=0), gzip.compress(b"abc" * 50, mtime=0)))
def test_gzip(place: Path, content: bytes):
    (place / "x.gz").write_bytes(content)
    with bounded():
        assert len(read_bytes(place / "x.gz")) < 100_000


def test_a_gzip_bomb_stops_at_the_bound(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rawformats, "MAX_BYTES", 2**20)
    (place / "bomb.gz").write_bytes(gzip.compress(bytes(2**24)))
    with pytest.raises(rawformats.RunError, match="holds more than 1 MiB"):
        read_bytes(place / "bomb.gz")


@st.composite
def tar(draw: Any) -> bytes:
    file = io.BytesIO()
    names = (NAME, f"a/{NAME}", f"../{NAME}", f"/tmp/{NAME}", "other", f"a/../../{NAME}", "n" * 300, f"{NAME}/")
    kinds = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
    with tarfile.open(
        fileobj=file, mode="w", format=draw(st.sampled_from((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)))
    ) as to:
        for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=4)):
            member = tarfile.TarInfo(name)
            member.type = draw(st.sampled_from((kinds[0], kinds[0], *kinds)))
            member.linkname = draw(st.sampled_from(("", "/etc/passwd", NAME)))
            content = draw(st.binary(max_size=30)) if member.type == tarfile.REGTYPE else b""
            member.size = len(content)
            to.addfile(member, io.BytesIO(content))
    return file.getvalue()


@st.composite
def broken_tar(draw: Any) -> bytes:
    return draw(anything(draw(tar())))


@fuzz(content=st.one_of(tar(), broken_tar()))
def test_tar(place: Path, content: bytes):
    (place / "x.tar").write_bytes(content)
    before = sorted(place.rglob("*"))
    with bounded():
        members = read_tar(place / "x.tar", [NAME])
        assert members.keys() == {NAME} and members[NAME] in content
    assert sorted(place.rglob("*")) == before
