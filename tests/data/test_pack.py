# SPDX-License-Identifier: Apache-2.0
import io
import json
import pickle
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cnnjax.commands import main
from cnnjax.data import load_dataset, load_source, packing
from cnnjax.data.packing import pack
from cnnjax.errors import RunError, UsageError
from cnnjax.types import Config, Source


def picture(value: int) -> bytes:
    file = io.BytesIO()
    image = np.random.default_rng(value).integers(0, 256, (9 + value % 3, 8, 3)).astype(np.uint8)
    Image.fromarray(image).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits of two classes: 6 and 3 pictures for training, 2 and 2 to test."""
    for split, label, count, first in (
        ("train", "a", 6, 0),
        ("train", "b", 3, 10),
        ("test", "a", 2, 20),
        ("test", "b", 2, 30),
    ):
        (tmp_path / "set" / split / label).mkdir(parents=True)
        for i in range(count):
            (tmp_path / "set" / split / label / f"{i}.jpg").write_bytes(picture(first + i))
    return tmp_path / "set"


def read(name: str) -> Source:
    return load_source(SimpleNamespace(source=name, train_split="train", test_split="test"))


def contents(source: Source) -> dict[str, list[tuple[bytes, int]]]:
    found = {}
    for split, records in source.splits.items():
        assert records.stored is not None
        stored = pickle.loads(pickle.dumps(records.stored))  # as worker processes have it
        assert len(stored.labels()) == records.num_records
        found[split] = [(stored.read(i), int(stored.labels()[i])) for i in range(records.num_records)]
    return found


def run(*arguments: str) -> int:
    return main(["prepare", *arguments])


def test_a_pack_holds_the_files_of_a_folder(folder: Path, tmp_path: Path, data: Config):
    out = tmp_path / "pack"
    checks = pack(read(f"folder:{folder}"), out, shard_bytes=1000)
    assert checks is not None and checks.counts["train"].tolist() == [6, 3] and checks.counts["test"].tolist() == [2, 2]
    assert not (checks.unreadable or checks.duplicates)
    packed = read(f"pack:{out}")
    assert contents(packed) == contents(read(f"folder:{folder}"))
    assert packed.label_names == ("a", "b") and len(list(out.glob("train-*.array_record"))) > 2
    data.image_size = (6, 6)
    for data.stream in ("true", "false"):
        data.source = f"folder:{folder}"
        expected = load_dataset(data)
        data.source = f"pack:{out}"
        found = load_dataset(data)
        for split in expected.splits:
            np.testing.assert_array_equal(np.asarray(found.splits[split].image), expected.splits[split].image)
            np.testing.assert_array_equal(found.splits[split].label, expected.splits[split].label)


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "pack"
    (folder / "train" / "a" / "9.jpg").write_bytes((folder / "test" / "b" / "0.jpg").read_bytes())
    assert run(f"--source=folder:{folder}", f"--out={out}") == 0
    text = capsys.readouterr().out
    assert "all       4     10" in text and "train: the largest class has 2.3 times the pictures" in text
    assert f"1 pictures are copies of others, byte for byte, as {folder}/test/b/0.jpg = {folder}/train/a/9.jpg" in text
    assert "two splits: the network is tested on what it is trained on" in text and "have two labels" in text
    assert text.endswith(f"--config.data.source=pack:{out}\n")
    assert run(f"--source=folder:{folder}", f"--out={out}") == 0
    assert "holds this set already" in capsys.readouterr().out
    (folder / "train" / "a" / "9.jpg").unlink()
    assert run(f"--source=folder:{folder}", f"--out={out}") == 2
    assert "before it changed; take another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source=folder:SET"], "add --out=DIR"),
        (["tfds:mnist", "--source=folder:SET"], "name one set"),
        ([], "name one set"),
        (["--source=tfds:mnist", "--out=x"], "--out is where"),
        (["--source=digits:x", "--out=x"], "unknown source to prepare 'digits'"),
        (["--source=folder:SET", "--out=SET"], "is not empty"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]):
    assert run(*(argument.replace("SET", str(folder)) for argument in arguments)) == 2
    assert message in capsys.readouterr().err


def test_copies_in_the_training_set_are_dropped(folder: Path, tmp_path: Path):
    (folder / "train" / "a" / "9.jpg").write_bytes((folder / "test" / "b" / "0.jpg").read_bytes())
    (folder / "train" / "b" / "9.jpg").write_bytes((folder / "train" / "b" / "0.jpg").read_bytes())
    checks = pack(read(f"folder:{folder}"), tmp_path / "pack", drop_copies=True)
    assert checks is not None and len(checks.duplicates) == 2
    assert len(checks.across_splits) == len(checks.two_labels) == 1
    assert checks.counts["train"].tolist() == [6, 3] and checks.counts["test"].tolist() == [2, 2]


def test_unreadable_pictures_are_all_listed_or_left_out(folder: Path, tmp_path: Path):
    for file in ("train/a/0.jpg", "train/b/1.jpg"):
        (folder / file).write_bytes((folder / file).read_bytes()[:150])
    source, out = read(f"folder:{folder}"), tmp_path / "pack"
    with pytest.raises(
        RunError, match=r"2 of the pictures cannot be read: .*a/0.jpg \(.*b/1.jpg \(.*on_bad_image=skip"
    ):
        pack(source, out)
    with pytest.raises(RunError, match="unfinished"):
        read(f"pack:{out}")
    checks = pack(source, out, skip=True)
    assert checks is not None and len(checks.unreadable) == 2
    assert len(json.loads((out / "checks.json").read_text())["unreadable"]) == 2
    assert [len(rows) for rows in contents(read(f"pack:{out}")).values()] == [4, 7]


def test_an_interrupted_pack_is_begun_anew(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog):
    source, out = read(f"folder:{folder}"), tmp_path / "pack"
    with monkeypatch.context() as patch:
        patch.setattr(packing._Shards, "close", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack(source, out, shard_bytes=1)
    left = set(out.iterdir())
    assert len(left) > 1
    with pytest.raises(RunError, match=r"run the 'run.py prepare' that began it again"):
        read(f"pack:{out}")
    pack(source, out)
    assert "an unfinished pack" in caplog.text
    assert contents(read(f"pack:{out}")) == contents(source)
    assert not (out / "unfinished.json").exists() and len(list(out.glob("*.array_record"))) == 2


def test_damage_is_told(folder: Path, tmp_path: Path):
    out = tmp_path / "pack"
    pack(read(f"folder:{folder}"), out)
    shard = out / "train-00000.array_record"
    whole = shard.read_bytes()
    place = whole.index((folder / "train" / "a" / "1.jpg").read_bytes()) + 20
    shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    stored = read(f"pack:{out}").splits["train"].stored
    assert stored is not None and stored.read(0)
    with pytest.raises(ValueError, match=r"train-00000.array_record is damaged or missing"):
        stored.read(1)
    assert stored.name(1) == f"{out}/train[1] ({folder}/train/a/1.jpg)"
    shard.write_bytes(whole[:-1])
    with pytest.raises(RunError, match=r"has [\d,]+ bytes, not the"):
        read(f"pack:{out}")
    shard.unlink()
    with pytest.raises(RunError, match=r"train-00000.array_record of the pack is missing"):
        read(f"pack:{out}")
    shard.write_bytes(whole)
    index = np.load(out / "train.npz")
    np.savez(out / "train.npz", **{**index, "crc32": index["crc32"] + 1})
    stored = read(f"pack:{out}").splits["train"].stored
    assert stored is not None
    with pytest.raises(ValueError, match="the checksum differs"):
        stored.read(0)
    (out / "train.npz").write_bytes(b"none")
    stored = read(f"pack:{out}").splits["train"].stored
    assert stored is not None
    with pytest.raises(RunError, match=r"train.npz of the pack is damaged"):
        stored.labels()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"label_names": [1, 2]},
        {"splits": {}},
        {"splits": {"train": [{"file": "../train-00000.array_record", "num_records": 1, "bytes": 1}]}},
        {"splits": {"../x": [{"file": "train-00000.array_record", "num_records": 1, "bytes": 1}]}},
        {"splits": {"train": [{"file": "train-00000.array_record", "num_records": True, "bytes": 1}]}},
        {"splits": {"train": [{"file": "train-00000.array_record"}]}},
        {"splits": 3},
    ],
)
def test_a_description_from_a_stranger_is_data(folder: Path, tmp_path: Path, change: dict[str, object]):
    out = tmp_path / "pack"
    pack(read(f"folder:{folder}"), out)
    manifest = json.loads((out / "pack.json").read_text())
    (out / "pack.json").write_text(json.dumps(manifest | change))
    with pytest.raises(RunError, match="pack the set again"):
        read(f"pack:{out}")


def test_what_is_no_pack(tmp_path: Path):
    with pytest.raises(UsageError, match=r"holds no pack.json; 'run.py prepare --source=folder:PATH --out=DIR'"):
        read(f"pack:{tmp_path}")


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_tar_files_with_labels_beside_the_pictures(tmp_path: Path):
    folder = tmp_path / "tars"
    write_tar(
        folder / "train-0.tar", {"x/1.jpg": picture(1), "x/1.cls": b"1\n", "2.cls": b"0", "2.seg.png": picture(2)}
    )
    write_tar(folder / "train-1.tar", {"3.jpg": picture(3), "3.json": b"{}", "3.cls": b"1"})
    write_tar(folder / "val" / "000.tar", {"1.jpeg": picture(4), "1.cls": b"0"})
    for _ in range(2):  # from the files, from the cache
        source = read(f"tar:{folder}")
        assert source.label_names == ("0", "1")
        rows = {"train": [(picture(1), 1), (picture(2), 0), (picture(3), 1)], "val": [(picture(4), 0)]}
        assert contents(source) == rows
    stored = source.splits["train"].stored
    assert stored is not None and stored.name(1) == f"{folder}/train-0.tar/2.seg.png"
    (folder / "classes.txt").write_text("cat\ndog\nowl\n")
    assert read(f"tar:{folder}").label_names == ("cat", "dog", "owl")
    (folder / "classes.txt").write_text("cat\n")
    with pytest.raises(RunError, match="names 1 classes"):
        read(f"tar:{folder}")


def test_tar_files_with_folders_of_labels(tmp_path: Path):
    write_tar(tmp_path / "t" / "all.tar", {"b/1.jpg": picture(1), "a/1.jpg": picture(2), "a/.hidden.jpg": b""})
    source = read(f"tar:{tmp_path / 't'}")
    assert source.label_names == ("a", "b")
    assert contents(source) == {"all": [(picture(1), 1), (picture(2), 0)]}
    image, label = source.splits["all"].read(0)
    assert image.size == (8, 10) and label == 1


def test_what_is_wrong_with_tar_files(tmp_path: Path):
    with pytest.raises(UsageError, match="no tar files"):
        read(f"tar:{tmp_path}")
    path = tmp_path / "train-0.tar"
    for files, mode, message in (
        ({"1.jpg": picture(1)}, "w", "train-0.tar/1.jpg has no label"),
        ({"a/1.txt": b""}, "w", "hold no pictures"),
        ({"a/1.jpg": picture(1)}, "w:gz", "not compressed"),
    ):
        write_tar(path, files, mode)
        with pytest.raises(RunError, match=message):
            read(f"tar:{tmp_path}")
    write_tar(path, {"a/1.jpg": picture(1), "b/1.jpg": picture(2)})
    source = read(f"tar:{tmp_path}")
    path.write_bytes(path.read_bytes()[:900])
    stored = source.splits["train"].stored
    assert stored is not None
    with pytest.raises(ValueError, match="ends before it"):
        stored.read(1)
