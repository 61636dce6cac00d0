# SPDX-License-Identifier: Apache-2.0
import os
import sys

import numpy as np
import pytest

from cnnjax.data.decode import decode, image_bytes, kept_labels
from cnnjax.errors import CnnjaxError, RunError, UsageError
from cnnjax.types import Config, Records

LARGE = 2**30


def make_records(pictures: list, labels: list[int]) -> Records:
    """An exception in the place of a picture is raised when it is read."""

    def read(i: int) -> tuple[np.ndarray, int]:
        if isinstance(pictures[i], Exception):
            raise pictures[i]
        return pictures[i], labels[i]

    return Records(len(pictures), read, lambda i: f"p{i}")


def grays(values: list[int]) -> list[np.ndarray]:
    return [np.full((2, 3), value, np.uint8) for value in values]


def test_rows_are_those_of_the_indices_in_order(data: Config, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cnnjax.data.decode._CHUNK", 1)  # many chunks, several windows
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    records = make_records(grays([v % 256 for v in range(1000)]), [v % 7 for v in range(1000)])
    indices = np.arange(0, 1000, 3)
    split, unreadable, _ = decode(records, indices, np.arange(7), data, LARGE, "x")
    assert (split.image.shape, split.image.dtype, split.label.dtype) == ((334, 2, 3, 1), np.uint8, np.int32)
    np.testing.assert_array_equal(split.image[:, 0, 0, 0], indices % 256)
    np.testing.assert_array_equal(split.label, indices % 7)
    assert unreadable == []


def test_all_unreadable_records_are_gathered(data: Config):
    pictures = grays([1, 2, 3, 4, 5])
    pictures[1:4:2] = [OSError(5, "Input/output error"), ValueError("of two\nlines")]  # type: ignore[list-item]
    split, unreadable, _ = decode(make_records(pictures, [0] * 5), np.arange(5), np.arange(1), data, LARGE, "x")
    assert split.image[:, 0, 0, 0].tolist() == [1, 3, 5]
    assert unreadable == ["p1 (Input/output error)", "p3 (of two lines)"]


def test_nothing_readable(data: Config):
    records = make_records([ValueError("bad"), ValueError("worse")], [0, 0])
    split, unreadable, _ = decode(records, np.arange(2), np.arange(1), data, LARGE, "x")
    assert (len(split.image), len(split.label), len(unreadable)) == (0, 0, 2)
    assert image_bytes(records, np.arange(2), np.arange(1), data) == 0


def test_labels_are_kept_and_renumbered(data: Config):
    numbers = kept_labels(("cat", "dog", "eel"), ("eel", "cat"))
    assert numbers.tolist() == [1, -1, 0]
    records = make_records(grays([10, 11, 12, 13]), [0, 1, 2, 0])
    split, _, _ = decode(records, np.arange(4), numbers, data, LARGE, "x")
    assert split.image[:, 0, 0, 0].tolist() == [10, 12, 13]
    assert split.label.tolist() == [1, 0, 1]
    assert kept_labels(("a", "b"), ()).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "words"), [(("dgo",), "did you mean 'dog'.*config.data.labels"), (("cat", "cat"), "'cat' twice")]
)
def test_label_errors(labels: tuple[str, ...], words: str):
    with pytest.raises(UsageError, match=words):
        kept_labels(("cat", "dog"), labels)


GRAY, WIDE, COLOUR = (np.zeros(shape, np.uint8) for shape in [(2, 3), (2, 4), (2, 3, 3)])


@pytest.mark.parametrize(
    ("pictures", "labels", "error", "words"),
    [
        ([GRAY, GRAY], [0, 2], RunError, r"p1 has label 2, outside 0\.\.1"),
        ([GRAY, GRAY], [-1, 0], RunError, "p0 has label -1"),
        ([GRAY, WIDE], [0, 0], UsageError, r"p0 is gray of 2x3 .* p1 is gray of 2x4 .*config.data.image_size='\(2, 3"),
        ([GRAY, COLOUR], [0, 0], UsageError, "p0 is gray .* p1 is colour .* config.data.color=rgb"),
        ([COLOUR, WIDE], [0, 0], UsageError, "config.data.color=rgb .* config.data.image_size"),
    ],
)
def test_errors(data: Config, pictures: list, labels: list[int], error: type[CnnjaxError], words: str):
    with pytest.raises(error, match=words) as caught:
        decode(make_records(pictures, labels), np.arange(len(pictures)), np.arange(2), data, LARGE, "x")
    assert "\n" not in str(caught.value)


def test_a_policy_that_does_not_suit_names_the_picture_and_is_not_skipped(data: Config):
    data.image_size, data.resize = (2, 2), "pad"
    with pytest.raises(UsageError, match="p0: 2x3 pixels cannot be padded"):
        decode(make_records([GRAY], [0]), np.arange(1), np.arange(1), data, LARGE, "x")


def test_too_many_bytes(data: Config):
    records = make_records(grays([1, 2, 3]), [0, 0, 0])
    assert image_bytes(records, np.arange(3), np.arange(1), data) == 6
    assert len(decode(records, np.arange(3), np.arange(1), data, 18, "x").split.label) == 3
    with pytest.raises(RunError, match=r"images of x .*config.data.max_resident_gib"):
        decode(records, np.arange(3), np.arange(1), data, 17, "x")


def test_no_bar_without_a_terminal(data: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cnnjax.data.decode._BAR_AFTER_SECONDS", 0.0)
    records = make_records(grays([1] * 100), [0] * 100)
    decode(records, np.arange(100), np.arange(1), data, LARGE, "title")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    decode(records, np.arange(100), np.arange(1), data, LARGE, "title")
    assert "reading title" in capsys.readouterr().err
