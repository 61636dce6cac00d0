# SPDX-License-Identifier: Apache-2.0
"""The publishers' formats: tiny files written here, sound and spoilt, found and downloaded."""

import gzip
import hashlib
import http.server
import io
import pathlib
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from cnnjax.data import download, raw, rawformats
from cnnjax.data.published import SETS, RawFile
from cnnjax.errors import RunError
from cnnjax.types import Source


def idx_images(count: int, first: int = 0) -> bytes:
    """`count` pictures of 2x3 pixels, all of the value `first` + number."""
    return struct.pack(">4I", 2051, count, 2, 3) + b"".join(bytes([first + i] * 6) for i in range(count))


def idx_labels(labels: list[int]) -> bytes:
    return struct.pack(">2I", 2049, len(labels)) + bytes(labels)


def write_mnist(folder: pathlib.Path, *, packed: bool) -> pathlib.Path:
    folder.mkdir(parents=True)
    files = {
        "train-images-idx3-ubyte": idx_images(3),
        "train-labels-idx1-ubyte": idx_labels([7, 0, 9]),
        "t10k-images-idx3-ubyte": idx_images(2, 100),
        "t10k-labels-idx1-ubyte": idx_labels([1, 2]),
    }
    for name, data in files.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)
    return folder


def cifar_record(labels: list[int], red: int, green: int, blue: int) -> bytes:
    """A picture of one colour but for its pixel at row 0, column 1, which is 1 brighter in red."""
    plane = bytearray([red] * 1024)
    plane[1] += 1
    return bytes(labels) + bytes(plane) + bytes([green] * 1024) + bytes([blue] * 1024)


def cifar10_members() -> dict[str, bytes]:
    batches = {f"data_batch_{i}.bin": cifar_record([i], 10 * i, 20, 30) for i in range(1, 6)}
    return batches | {"test_batch.bin": cifar_record([9], 1, 2, 3) + cifar_record([8], 4, 5, 6)}


def tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def write_archive(folder: pathlib.Path, members: dict[str, bytes]) -> pathlib.Path:
    path = folder / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(tar(members)))
    return path


def load(name: str, folder: pathlib.Path) -> Source:
    source = raw.load_source(name, folder)
    assert source is not None
    return source


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["mnist", ".", "MNIST/raw", "mnist/MNIST/raw"])
def test_idx(tmp_path: pathlib.Path, packed: bool, below: str) -> None:
    write_mnist(tmp_path / "data" / below, packed=packed)
    source = load("mnist", tmp_path / "data")
    assert source.label_names == tuple("0123456789")
    assert {split: records.num_records for split, records in source.splits.items()} == {"train": 3, "test": 2}
    image, label = source.splits["train"].read(2)
    np.testing.assert_array_equal(image, np.full((2, 3), 2, np.uint8))
    assert label == 9
    image, label = source.splits["test"].read(1)
    np.testing.assert_array_equal(image, np.full((2, 3), 101, np.uint8))
    assert label == 2
    assert source.splits["test"].name(1) == "test[1]"


def test_idx_with_the_dot_of_some_programs(tmp_path: pathlib.Path) -> None:
    folder = write_mnist(tmp_path / "mnist", packed=False)
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert load("mnist", tmp_path).splits["train"].read(0)[1] == 7


def test_a_set_of_its_own_folder_comes_before_one_beside_it(tmp_path: pathlib.Path) -> None:
    folder = write_mnist(tmp_path / "data", packed=True)
    write_mnist(folder / "fashion_mnist", packed=True)
    (folder / "fashion_mnist" / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_labels([5, 5, 5])))
    assert load("fashion_mnist", folder).splits["train"].read(0)[1] == 5
    assert load("mnist", folder).splits["train"].read(0)[1] == 7


def test_the_files_of_another_set_of_the_same_names_are_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_mnist(tmp_path / "data", packed=True)
    md5 = hashlib.md5(idx_labels([7, 0, 9])).hexdigest()
    files = tuple(file._replace(md5=md5) if "train-labels" in file.name else file for file in SETS["mnist"].files)
    monkeypatch.setitem(SETS, "mnist", SETS["mnist"]._replace(files=files))
    with pytest.raises(RunError, match=r"train-labels-idx1-ubyte.gz is a file of mnist; keep each set in a folder"):
        load("fashion_mnist", tmp_path / "data")
    caplog.clear()
    load("mnist", tmp_path / "data")
    assert "train-labels-idx1-ubyte.gz is not" not in caplog.text
    assert "t10k-labels-idx1-ubyte.gz is not the published file; it is used as it is" in caplog.text


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "0 bytes are no IDX header"),
        (idx_images(2)[:9], "9 bytes are no IDX header"),
        (idx_images(2)[:-1], "has 11 bytes after a header that says 2 x 2 x 3"),
        (idx_images(2) + b"\0", "has 13 bytes after a header that says 2 x 2 x 3"),
        (idx_labels([1, 2] * 8), r"is no IDX file of images \(magic number 2049, not 2051\)"),
        (struct.pack(">4I", 2051, 2**32 - 1, 2**32 - 1, 2**32 - 1), "has 0 bytes after a header that says 4294967295"),
        (struct.pack(">4I", 2051, 0, 2, 3), "has 0 bytes after a header that says 0 x 2 x 3"),
        (b"\x89PNG\r\n\x1a\n" * 4, "is no IDX file of images"),
    ],
)
def test_spoilt_idx_files(tmp_path: pathlib.Path, data: bytes, complaint: str) -> None:
    folder = write_mnist(tmp_path / "mnist", packed=False)
    (folder / "train-images-idx3-ubyte").write_bytes(data)
    with pytest.raises(RunError, match=f"train-images-idx3-ubyte .*{complaint}.*; put the publisher's file"):
        raw.load_source("mnist", tmp_path)


def test_labels_must_be_as_many_and_in_range(tmp_path: pathlib.Path) -> None:
    folder = write_mnist(tmp_path / "mnist", packed=False)
    labels = folder / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_labels([1, 2]))
    with pytest.raises(RunError, match="has 3 train pictures, but there are 2 labels"):
        raw.load_source("mnist", tmp_path)
    labels.write_bytes(idx_labels([1, 10, 2]))
    with pytest.raises(RunError, match=r"has label 10 at train\[1\], outside 0..9"):
        raw.load_source("mnist", tmp_path)


def test_spoilt_gzip_files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_mnist(tmp_path / "mnist", packed=True)
    path = folder / "train-images-idx3-ubyte.gz"
    sound = path.read_bytes()
    for data in (sound[:-9], sound[:20], b"not gzip at all", sound[:15] + b"\xff\xff" + sound[17:]):
        path.write_bytes(data)
        with pytest.raises(RunError, match="is cut short or damaged"):
            raw.load_source("mnist", tmp_path)
    monkeypatch.setattr(rawformats, "MAX_BYTES", 1 << 20)
    path.write_bytes(gzip.compress(bytes(1 << 21)))  # 2 MiB in 2 KB
    with pytest.raises(RunError, match="holds more than 1 MiB"):
        raw.load_source("mnist", tmp_path)


@pytest.mark.parametrize("archive", [True, False])
def test_cifar10(tmp_path: pathlib.Path, archive: bool) -> None:
    if archive:
        write_archive(tmp_path, {f"cifar-10-batches-bin/{name}": data for name, data in cifar10_members().items()})
    else:
        folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
        folder.mkdir(parents=True)
        for name, data in cifar10_members().items():
            (folder / name).write_bytes(data)
    source = load("cifar10", tmp_path)
    assert source.label_names[3] == "cat"
    assert {split: records.num_records for split, records in source.splits.items()} == {"train": 5, "test": 2}
    assert [source.splits["train"].read(i)[1] for i in range(5)] == [1, 2, 3, 4, 5]
    image, label = source.splits["test"].read(1)
    assert (image.shape, image.dtype, label) == ((32, 32, 3), np.uint8, 8)
    assert image[0, 0].tolist() == [4, 5, 6]
    assert image[0, 1].tolist() == [5, 5, 6]
    assert image[1, 0].tolist() == [4, 5, 6]


def test_cifar100_has_the_fine_labels(tmp_path: pathlib.Path) -> None:
    (tmp_path / "train.bin").write_bytes(cifar_record([19, 99], 1, 2, 3))
    (tmp_path / "test.bin").write_bytes(cifar_record([0, 42], 4, 5, 6))
    source = load("cifar100", tmp_path)
    assert len(source.label_names) == 100
    assert source.label_names[source.splits["train"].read(0)[1]] == "worm"
    image, label = source.splits["test"].read(0)
    assert (image[0, 0].tolist(), source.label_names[label]) == ([4, 5, 6], "leopard")


def test_spoilt_cifar_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "test.bin").write_bytes(cifar_record([0, 42], 4, 5, 6))
    for data, complaint in (
        (b"", "has 0 bytes, which is no multiple of a record's 3074"),
        (cifar_record([1, 2], 1, 2, 3)[:-1], "has 3073 bytes, which is no multiple"),
        (cifar_record([1, 100], 1, 2, 3), r"has label 100 at train\[0\], outside 0..99"),
    ):
        (tmp_path / "train.bin").write_bytes(data)
        with pytest.raises(RunError, match=complaint):
            raw.load_source("cifar100", tmp_path)


def test_hostile_archives(tmp_path: pathlib.Path) -> None:
    members = cifar10_members()
    for name in ("../../data_batch_1.bin", "/tmp/other", "a/../../b"):
        write_archive(tmp_path, members | {name: b"x"})
        with pytest.raises(RunError, match=r"cifar-10-binary.tar.gz has a member outside its own folder .*; put the"):
            raw.load_source("cifar10", tmp_path)
    write_archive(tmp_path, members | {"elsewhere/test_batch.bin": b"x"})
    with pytest.raises(RunError, match=r"has test_batch.bin twice"):
        raw.load_source("cifar10", tmp_path)
    write_archive(tmp_path, {name: members[name] for name in list(members)[1:]})
    with pytest.raises(RunError, match=r"lacks data_batch_1.bin"):
        raw.load_source("cifar10", tmp_path)

    path = tmp_path / "cifar-10-binary.tar.gz"
    link = tarfile.TarInfo("test_batch.bin")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    path.write_bytes(gzip.compress(link.tobuf() + tar(members)))
    with pytest.raises(RunError, match=r"has test_batch.bin twice, or not as a file"):
        raw.load_source("cifar10", tmp_path)
    big = tarfile.TarInfo("test_batch.bin")
    big.size = 1 << 60
    for data in (big.tobuf(tarfile.GNU_FORMAT) + b"x" * 512, b"x" * 2000, tar(members)[:5000], b""):
        path.write_bytes(gzip.compress(data))
        with pytest.raises(RunError, match=r"cifar-10-binary.tar.gz (is|lacks)"):
            raw.load_source("cifar10", tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["cifar-10-binary.tar.gz"]  # nothing was unpacked


def test_what_is_lacking_is_named(tmp_path: pathlib.Path) -> None:
    assert raw.load_source("cifar10", tmp_path) is None
    assert f"no raw files (cifar-10-binary.tar.gz) in {tmp_path}/cifar10, {tmp_path} or " in raw.lacking(
        "cifar10", tmp_path
    )
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert f"({tmp_path}/cifar-10-batches-py is the Python version" in raw.lacking("cifar10", tmp_path)
    folder = write_mnist(tmp_path / "mnist", packed=True)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    assert raw.load_source("mnist", tmp_path) is None
    assert f"(in {folder} there is only train-images-idx3-ubyte.gz, " in raw.lacking("mnist", tmp_path)


def test_the_fingerprint_follows_the_files(tmp_path: pathlib.Path) -> None:
    folder = write_mnist(tmp_path / "mnist", packed=False)
    before = load("mnist", tmp_path).fingerprint
    assert load("mnist", tmp_path).fingerprint == before
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_labels([0, 0, 0]))
    assert load("mnist", tmp_path).fingerprint != before


def test_files_of_the_published_sizes_are_read_with_the_first_record(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_mnist(tmp_path / "mnist", packed=True)
    files = tuple(file._replace(size=(folder / file.name).stat().st_size) for file in SETS["mnist"].files)
    monkeypatch.setitem(SETS, "mnist", SETS["mnist"]._replace(files=files, sizes={"train": 3, "test": 2}))
    reads = []
    monkeypatch.setattr(raw, "read_bytes", lambda path: reads.append(path.name) or rawformats.read_bytes(path))
    source = load("mnist", tmp_path)
    assert (source.splits["train"].num_records, reads) == (3, [])
    assert source.splits["train"].read(0)[1] == 7
    assert source.splits["test"].read(0)[1] == 1
    assert len(reads) == 4
    monkeypatch.setitem(SETS, "mnist", SETS["mnist"]._replace(sizes={"train": 4, "test": 2}))
    with pytest.raises(RunError, match="has 3 train pictures, not 4"):
        load("mnist", tmp_path).splits["train"].read(0)


# Downloads, from a server of this process.


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """(URL ending in a slash, the folder it gives out)."""
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: _Quiet(*args, directory=str(folder))) as each:
        threading.Thread(target=each.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{each.server_port}/", folder
        each.shutdown()


def closed_port() -> str:
    with http.server.HTTPServer(("127.0.0.1", 0), _Quiet) as each:
        return f"http://127.0.0.1:{each.server_port}/"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_download_tries_the_mirrors_in_turn(server: tuple[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    url, folder = server
    data = bytes(range(256)) * 1000
    (folder / "good").write_bytes(data)
    (folder / "other").write_bytes(data[::-1])
    (folder / "long").write_bytes(data + b"x")
    (folder / "short").write_bytes(data[:-1])
    bad = [closed_port() + "file", url + "missing", url + "other", url + "long", url + "short"]
    path = tmp_path / "cache" / "file"
    assert download.fetch([*bad, url + "good"], path, len(data), sha256(data)) == url + "good"
    assert path.read_bytes() == data
    assert [each.name for each in path.parent.iterdir()] == ["file"]
    path.unlink()
    with pytest.raises(RunError) as caught:
        download.fetch(bad, path, len(data), sha256(data))
    for reason in ("refused", "status 404", "wrong checksum", "more than 256000 bytes", "255999 of 256000 bytes"):
        assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(path.parent.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(server: tuple[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way of a folder")
    with pytest.raises(RunError, match=r"cannot write .*file/x: .*; make room, or set CNNJAX_CACHE_DIR"):
        download.fetch([server[0]], tmp_path / "file" / "x", 1, "")


def test_only_hosts_that_answer_are_asked(server: tuple[str, pathlib.Path]) -> None:
    urls = [closed_port(), server[0] + "missing", "nonsense", server[0]]
    assert download.answering(urls) == [server[0] + "missing", server[0]]


def test_a_silent_name_server_does_not_hold_things_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: over.wait(60) and [])
    start = time.monotonic()
    assert download.answering(["http://127.0.0.1:1/"], seconds=0.1) == []
    assert time.monotonic() - start < 10
    over.set()


def test_a_set_is_downloaded_once(
    server: tuple[str, pathlib.Path], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    url, folder = server
    write_mnist(folder / "mnist", packed=True)
    files = tuple(
        RawFile(path.name, path.stat().st_size, sha256(path.read_bytes()), file.md5)
        for file in SETS["mnist"].files
        for path in [folder / "mnist" / file.name]
    )
    urls = (closed_port(), url + "mnist/")
    monkeypatch.setitem(SETS, "mnist", SETS["mnist"]._replace(urls=urls, files=files, sizes={"train": 3, "test": 2}))
    assert raw.load_source("mnist", tmp_path / "nothing") is None
    source = raw.download_source("mnist")
    assert source.splits["train"].read(2)[1] == 9
    assert len(list((tmp_path / "cache" / "raw" / "mnist").iterdir())) == 4
    again = load("mnist", tmp_path / "nothing")
    assert again.fingerprint == source.fingerprint

    monkeypatch.setitem(SETS, "mnist", SETS["mnist"]._replace(urls=(closed_port(), closed_port())))
    with pytest.raises(RunError, match=r"^no answer from 127.0.0.1:\d+, 127.0.0.1:\d+$"):
        raw.download_source("mnist")
    assert load("mnist", tmp_path / "nothing").splits["train"].num_records == 3


def test_the_table_is_complete() -> None:
    for name, each in SETS.items():
        assert len(each.files) == (4 if "mnist" in name else 1)
        assert len(set(each.label_names)) == (100 if name == "cifar100" else 10)
        assert all(len(file.sha256) == 64 and len(file.md5) in (0, 32) for file in each.files)
        assert all(url.startswith("http") and url.endswith("/") for url in each.urls)
        assert len(each.urls) >= 2
