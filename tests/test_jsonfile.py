# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from cnnjax import jsonfile
from cnnjax.errors import RunError
from cnnjax.jsonfile import loads, read_object


def test_strict_json_comes_back():
    assert loads('{"a": [1, -2.5, "x", null, true]}') == {"a": [1, -2.5, "x", None, True]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NaN", "no JSON number"),
        ("[-Infinity]", "no JSON number"),
        ("1e999", "too large"),
        ("9223372036854775808", "too large"),
        ("9" * 5000, "too large"),
        ("[" * 100_000, "nested too deeply"),
        ("{", "Expecting"),
    ],
)
def test_what_no_file_should_say_is_refused(text: str, words: str):
    with pytest.raises(ValueError, match=words):
        loads(text)


def test_a_file_is_one_object_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    assert read_object(path) == {"a": 1}
    monkeypatch.setattr(jsonfile, "MAX_BYTES", 7)
    with pytest.raises(RunError, match="more than"):
        read_object(path)
    path.write_text("[1]")
    with pytest.raises(RunError, match=r"cannot read .*x\.json: it holds no JSON object"):
        read_object(path)
    with pytest.raises(RunError, match="No such file"):
        read_object(tmp_path / "gone.json")
