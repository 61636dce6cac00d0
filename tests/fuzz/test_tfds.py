# SPDX-License-Identifier: Apache-2.0
"""Prepared sets from a stranger: pictures and labels, or a reason; what their descriptions name is not imported."""

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import strategies as st
from PIL import Image

from cnnjax.data.tfds import load_source
from cnnjax.errors import RunError
from experiments.default import get_config
from tests.fuzz.tools import anything, bounded, fuzz, hostile_json

NAME, NUM = "fuzzed_set", 3


class FuzzedSet(tfds.core.GeneratorBasedBuilder):
    """Three pictures of two classes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(4, 6, 3)),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Any:  # type: ignore[override]
        for i in range(NUM):
            file = io.BytesIO()
            Image.fromarray(np.full((4, 6, 3), 40 * i, np.uint8)).save(file, "PNG")
            yield i, {"image": file.getvalue(), "label": i % 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("prepared")
    FuzzedSet(data_dir=str(place)).download_and_prepare(file_format="array_record")
    read(place)
    return place


def read(place: Path) -> None:
    data: Any = get_config().data
    data.dir = str(place)
    source = load_source(NAME, data)
    for records in source.splits.values():
        for i in range(min(records.num_records, 10)):
            try:
                picture, label = records.read(i)
            except (OSError, ValueError) as error:  # a picture that cannot be read, which `decode` tells
                assert str(error)
            else:
                assert picture.size and isinstance(label, int)


@fuzz(0.6, data=st.data())
def test_any_file_of_a_prepared_set(prepared: Path, data: st.DataObject):
    place = prepared.with_name("changed")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(prepared, place)
    files = sorted(file for file in place.rglob("*") if file.is_file())
    file = data.draw(st.sampled_from(files))
    content = file.read_bytes()
    if file.suffix == ".json" and data.draw(st.integers(0, 3)):
        file.write_bytes(data.draw(hostile_json(json.loads(content))))
    else:
        file.write_bytes(data.draw(anything(content)))
    with bounded():
        read(place)


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name", "type"])
def test_what_a_description_names_is_not_imported(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
):
    harm, place = tmp_path / "harm", tmp_path / "set"
    (tmp_path / f"evil_{key}.py").write_text(f"import os\nos.mkdir({str(harm)!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(prepared, place)
    (file,) = place.rglob("features.json")
    description = json.loads(file.read_text())
    feature = description["featuresDict"]["features"]["label"]
    del feature["pythonClassName"]
    feature |= {key: f"evil_{key}.F"} | ({"content": {}} if key == "type" else {})
    file.write_text(json.dumps(description))
    with pytest.raises(RunError, match=rf"features\.json wants evil_{key}\.F imported"):
        read(place)
    assert not harm.exists() and f"evil_{key}" not in sys.modules
    with pytest.raises(ValueError, match="Unrecognized"):  # the library imports it: the test tests something
        tfds.features.FeatureConnector.from_json(feature)
    assert harm.exists()


def test_files_outside_the_folder_and_more_records_than_bytes(prepared: Path, tmp_path: Path):
    shutil.copytree(prepared, tmp_path / "set")
    (file,) = (tmp_path / "set").rglob("dataset_info.json")
    told = json.loads(file.read_text())
    outside = "../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    for key, value, sentence in (
        ("filepathTemplate", outside, "names a file outside its folder"),
        ("shardLengths", [str(10**12)], "says it has 1,000,000,000,000 records in"),
    ):
        split = {**told["splits"][0], key: value}
        file.write_text(json.dumps(told | {"splits": [split]}))
        with pytest.raises(RunError, match=sentence):
            read(tmp_path / "set")
