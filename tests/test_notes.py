# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from cnnjax.notes import FILE, read_notes, read_score, sealed


def noted(checkpoint: Path, notes: object) -> Path:
    (checkpoint / FILE).write_text(json.dumps({"custom_metadata": notes}))
    return checkpoint


def test_notes_come_back_and_a_change_of_any_is_noticed(tmp_path: Path):
    notes = {"score": 0.5, "crc32": {"step": 7}}
    assert read_notes(noted(tmp_path, sealed(notes))) == notes and read_score(tmp_path) == 0.5
    text = (tmp_path / FILE).read_text()
    for old, new in (("0.5", "0.7"), ("7", "6"), ("crc32", "crc33"), ("score", "scorf")):
        (tmp_path / FILE).write_text(text.replace(old, new))
        with pytest.raises(ValueError, match="changed on the disk"):
            read_notes(tmp_path)
        assert read_score(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"custom_metadata": 3}', '{"custom_metadata": "ab"}', "[" * 10**5])
def test_what_is_no_note_is_a_value_error(tmp_path: Path, text: str):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=r".+"):
        read_notes(tmp_path)


def test_older_checkpoints_keep_their_score_in_a_file(tmp_path: Path):
    assert read_notes(noted(tmp_path, None)) == {} and read_score(tmp_path) is None
    (tmp_path / "metrics").mkdir()
    for text, score in (('{"score": 3}', 3.0), ('{"score": 1e999}', float("inf")), ("{}", None), ("7", None)):
        (tmp_path / "metrics/metrics").write_text(text)
        assert read_score(tmp_path) == score
