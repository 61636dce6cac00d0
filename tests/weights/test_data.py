# SPDX-License-Identifier: Apache-2.0
"""Label names and image shapes: from the data where they are here, from flags, or said to be unknown."""

import numpy as np
import pytest
from PIL import Image

from cnnjax.errors import UsageError
from cnnjax.weights.data import describe, known_data, local_source, parse_shape, read_labels


def test_the_data_tell_names_and_shape(tiny):
    known = known_data(tiny("data.image_size=(6,5)", "data.color=rgb").data)
    assert known.name == "synthetic" and len(known.label_names) == 3 and not known.given
    assert known.image_shapes == ((6, 5, 3),)
    assert describe(known, 3, (6, 5, 3)).label_names == known.label_names
    assert known_data(tiny().data, image="9x7x2").image_shapes == ((9, 7, 2),)


def test_a_folder_tells_them_by_its_first_picture(tiny, tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        Image.fromarray(np.zeros((10, 12, 3), np.uint8)).save(tmp_path / "pets" / label / "1.png")
    known = known_data(tiny(f"data.source=folder:{tmp_path}/pets").data)
    assert known.label_names == ("cat", "dog") and known.image_shapes == ((10, 12, 3),)


def test_data_that_are_not_here(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))

    def no_network(*args):
        raise AssertionError("fetched")

    monkeypatch.setattr("cnnjax.data.raw.download_source", no_network)
    for source in ("tfds:imagenet2012", "tfds:mnist", f"folder:{tmp_path}/gone"):
        config = tiny(f"data.source={source}", "data.image_size=(24,20)")
        assert local_source(config.data) is None
        known = known_data(config.data)
        assert known == (source, (), False, ((24, 20, 3), (24, 20, 1)))
        info = describe(known, 2, (24, 20, 3))
        assert info == (source, ("class 0", "class 1"), (24, 20, 3), {})
    gray = tiny("data.source=tfds:imagenet2012", "data.image_size=(24,20)", "data.color=gray")
    assert known_data(gray.data).image_shapes == ((24, 20, 1),)
    with pytest.raises(UsageError, match="--input=HxWxC"):
        known_data(tiny("data.source=tfds:imagenet2012").data)


def test_labels_of_the_users(tiny, tmp_path, caplog):
    path = tmp_path / "labels.txt"
    path.write_text("tench\n crane \ncrane\n\n", encoding="utf-8-sig")
    assert read_labels(path) == ("tench", "crane", "crane (2)")
    known = known_data(tiny().data, labels=str(path))
    assert describe(known, 3, (8, 8, 1)).label_names == ("tench", "crane", "crane (2)")
    with pytest.raises(UsageError, match="--labels has 3 names, the weights are for 4 classes"):
        describe(known, 4, (8, 8, 1))
    # Names of the data's own are no promise of the user's.
    assert describe(known_data(tiny().data), 2, (8, 8, 1)).label_names == ("class 0", "class 1")
    assert "synthetic has 3 classes, the weights 2" in caplog.text
    path.write_text("a\n\nb\n")
    with pytest.raises(UsageError, match="line 2 is empty"):
        read_labels(path)
    path.write_text("\n")
    with pytest.raises(UsageError, match="holds no names"):
        read_labels(path)
    with pytest.raises(UsageError, match="cannot read"):
        read_labels(tmp_path / "gone.txt")


def test_a_shape_in_words():
    assert parse_shape("224x192X3") == (224, 192, 3)
    for wrong in ("224", "224x224", "0x3x3", "axbxc", "1x1x1x1", "-1x2x3"):
        with pytest.raises(UsageError, match="224x224x3"):
            parse_shape(wrong)
