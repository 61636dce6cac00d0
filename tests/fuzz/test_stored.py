# SPDX-License-Identifier: Apache-2.0
"""Packs, tar files and JPEGs as streaming reads them: pictures and labels, or a reason."""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from cnnjax.data import cache
from cnnjax.data.folder import load_source as load_folder
from cnnjax.data.jpeg import Policy, crop, decode
from cnnjax.data.pack import load_source as load_pack
from cnnjax.data.packing import pack
from cnnjax.data.tar import load_source as load_tar
from cnnjax.errors import RunError
from experiments.default import get_config
from tests.fuzz.tools import anything, bounded, fuzz, hostile_json

DATA: Any = get_config().data
POLICY = Policy("rgb", True, (6, 6), "crop", 0, "bilinear")
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 24, 3), np.uint8)


def jpeg(**options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", **options)
    return file.getvalue()


@fuzz(content=anything(jpeg(), jpeg(progressive=True), jpeg(quality=20, subsampling=0)))
def test_jpegs(content: bytes):
    with bounded(OSError, ValueError):
        assert decode(content, POLICY).shape == (6, 6, 3)
    with bounded(OSError, ValueError):
        box = crop(content, POLICY, lambda height, width: (0, 0, max(1, height // 2), max(1, width // 2)))
        assert box.shape == (6, 6, 3)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack and a folder of tar files, of two classes each."""
    place = tmp_path_factory.mktemp("stored")
    for label in ("cat", "dog"):
        (place / "folder" / label).mkdir(parents=True)
        Image.fromarray(PIXELS[: 9 + len(label)]).save(place / f"folder/{label}/{label}.png")
    pack(load_folder(str(place / "folder"), DATA), place / "pack")
    (place / "tar").mkdir()
    with tarfile.open(place / "tar/train-0.tar", "w") as to:
        for number in range(3):
            for name, content in ((f"{number}.jpg", jpeg()), (f"{number}.cls", b"01"[number % 2 : number % 2 + 1])):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                to.addfile(member, io.BytesIO(content))
    return place


# NumPy leaves a damaged archive open when it refuses it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["pack", "tar"])
def test_any_file_of_a_set(sets: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache, "load", lambda key: None)  # what was found in another file of the same name and size
    place = sets.with_name("changed")
    load = {"pack": load_pack, "tar": load_tar}[kind]

    @fuzz(0.6, data=st.data())
    def check(data: st.DataObject) -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(sets / kind, place)
        file = data.draw(st.sampled_from(sorted(file for file in place.rglob("*") if file.is_file())))
        content = file.read_bytes()
        sound = file.suffix == ".json" and data.draw(st.integers(0, 3))
        file.write_bytes(data.draw(hostile_json(json.loads(content)) if sound else anything(content)))
        with bounded():
            for records in load(str(place), DATA).splits.values():
                for i in range(min(records.num_records, 10)):
                    records.name(i)
                    with bounded(OSError, ValueError):
                        assert records.read(i)[0].size

    check()


def test_a_member_of_a_terabyte_is_not_made_room_for(sets: Path, tmp_path: Path):
    """The header of the last member says more than the file has."""
    content = bytearray((sets / "tar/train-0.tar").read_bytes())
    with tarfile.open(sets / "tar/train-0.tar") as shard:
        start = next(member.offset for member in shard if member.name == "2.jpg")
    header = tarfile.TarInfo("2.jpg")
    header.size = 2**40
    content[start:] = header.tobuf(tarfile.GNU_FORMAT) + b"2" * 100
    (tmp_path / "train-0.tar").write_bytes(content)
    with pytest.raises(RunError, match="it must be a whole tar file"):
        load_tar(str(tmp_path), DATA)


def test_an_index_that_unpacks_to_more_than_it_can_need_is_refused(sets: Path, tmp_path: Path):
    shutil.copytree(sets / "pack", tmp_path / "pack")
    (index,) = (tmp_path / "pack").glob("*.npz")
    np.savez_compressed(index, label=np.zeros(2**20, np.int32), crc32=np.zeros(2, np.uint32))
    (records,) = load_pack(str(tmp_path / "pack"), DATA).splits.values()
    with pytest.raises(RunError, match=r"it unpacks to 4,\d+,\d+ bytes"):
        records.read(0)
