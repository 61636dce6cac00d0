# SPDX-License-Identifier: Apache-2.0
"""`run.py prepare`: the process it starts, a tiny set prepared without TensorFlow, and what can be in the way."""

import argparse
import importlib.util
import io
import pathlib
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cnnjax.commands import main
from cnnjax.commands import prepare as command
from cnnjax.data import prepare
from cnnjax.data.tfds import load_source, parse_name
from cnnjax.errors import RunError, UsageError
from cnnjax.types import Config
from experiments.default import get_config


class TinyLocal(tfds.core.GeneratorBasedBuilder):
    """Two pictures made here: nothing to download, nothing that needs TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["no", "yes"])}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Any:  # type: ignore[override]
        for i in range(2):
            file = io.BytesIO()
            Image.fromarray(np.full((4, 4, 3), 100 * i, np.uint8)).save(file, "PNG")
            file.seek(0)
            yield i, {"image": file, "label": i}


class TinyRemote(TinyLocal):
    """It has something to download, of which nothing is registered."""

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        dl_manager.download("http://data.invalid/file")
        return super()._split_generators(dl_manager)


class TinyArray(TinyLocal):
    """Its pictures come as arrays, which tensorflow-datasets packs with TensorFlow."""

    def _generate_examples(self) -> Any:  # type: ignore[override]
        yield 0, {"image": np.zeros((4, 4, 3), np.uint8), "label": 0}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_quiet_unless_watched", tfds.disable_progress_bar)


def make(name: str, folder: pathlib.Path) -> pathlib.Path:
    return prepare.prepare(parse_name(name), folder)


def test_a_set_is_prepared_and_then_read(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = make("tiny_local", tmp_path)
    assert place == tmp_path / "tiny_local" / "1.0.0"
    assert capsys.readouterr().out == ""
    data: Config = get_config().data
    data.dir = str(tmp_path)
    source = load_source("tiny_local", data)
    rows = [source.splits["train"].read(i) for i in range(2)]
    assert sorted((int(np.asarray(image).mean()), label) for image, label in rows) == [(0, 0), (100, 1)]
    assert source.label_names == ("no", "yes")

    before = {path.name: path.stat().st_mtime_ns for path in place.iterdir()}
    assert make("tiny_local:1.0.0", tmp_path) == place  # it is there: nothing is done
    assert {path.name: path.stat().st_mtime_ns for path in place.iterdir()} == before


def test_another_format_in_the_same_place_is_left_alone(tmp_path: pathlib.Path) -> None:
    place = make("tiny_local", tmp_path)
    info = place / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(RunError, match=r"tiny_local/1.0.0 is there in a format that is not read; give another --data"):
        make("tiny_local", tmp_path)


def test_no_network_is_an_error_at_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(RunError, match=r"no answer from storage.googleapis.com; run this where there is a network"):
        make("beans", tmp_path)  # its hosts are known, and asked first
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RunError, match=r"^no answer from data.invalid; run this where there is a network"):
        make("tiny_remote", tmp_path)  # this one shows when it downloads
    assert socket.getaddrinfo is offline
    assert make("tiny_local", tmp_path).is_dir()  # this one needs no network


def test_a_host_that_answers_is_let_through() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with prepare._offline_is_an_error():
            assert socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)[0][4] == ("127.0.0.1", port)
    with prepare._offline_is_an_error(), pytest.raises(RunError, match=r"no answer from 127.0.0.1"):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed")
@pytest.mark.parametrize("name", ["mnist", "tiny_array"])  # one whose code calls it, one where that shows late
def test_without_tensorflow_the_remedy_is_named(name: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(RunError, match=f"preparing tfds:{name} needs TensorFlow; run 'uv sync --extra prepare'"):
        make(name, tmp_path)


def test_files_to_be_fetched_by_hand(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RunError) as caught:
        make("imagenet2012", tmp_path)
    assert f"put its files into {tmp_path}/downloads/manual, then run this again: " in str(caught.value)
    assert "ILSVRC2012_img_train.tar" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("mnits", "unknown tensorflow-datasets set 'mnits'; did you mean 'mnist'?"),
        ("cmaterdb/bangle", "unknown configuration of tfds:cmaterdb 'bangle'; did you mean 'bangla'?"),
        ("cifar10:9.9.9", "tfds:cifar10:9.9.9 cannot be had: cifar10 cannot be loaded at version 9.9.9, only: 3.0.2."),
    ],
)
def test_what_does_not_exist(name: str, complaint: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError) as caught:
        make(name, tmp_path)
    assert complaint in str(caught.value)


def test_the_command_starts_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    seen: dict[str, Any] = {}

    def run(argv: list[str], *, env: dict[str, str], check: bool) -> subprocess.CompletedProcess[str]:
        seen.update(argv=argv, env=env, check=check)
        return subprocess.CompletedProcess(argv, 7)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    args = argparse.Namespace(set="tfds:cifar10:3.0.2", source=None, data_dir=str(tmp_path), out=None, debug=True)
    assert command.run(args) == 7
    assert seen["argv"][:3] == [sys.executable, "-m", "cnnjax.data.prepare"]
    assert seen["argv"][3:] == [f"--data_dir={tmp_path}", "--debug", "--", "cifar10:3.0.2"]
    assert seen["env"]["PYTHONPATH"] == f"{pathlib.Path(__file__).parents[2]}:/elsewhere"


def test_other_sources_are_not_prepared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "digits"]) == 2
    error = capsys.readouterr().err
    assert "unknown source to prepare 'digits'" in error
    assert error.count("\n") == 1


def test_from_the_command_line_to_the_exit_code(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "tfds:no_such_set", "--data_dir=sets"]) == 2
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.splitlines()[0] == f"preparing tfds:no_such_set in {tmp_path}/sets"
    assert output.err.splitlines()[1].startswith("error: unknown tensorflow-datasets set 'no_such_set'; did you mean ")
    assert len(output.err.splitlines()) == 2
