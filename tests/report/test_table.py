# SPDX-License-Identifier: Apache-2.0
import pytest

from cnnjax.report.table import format_bytes, format_count, format_duration, format_table, printable, text_width


def test_numbers_stand_right_and_names_left():
    table = format_table(
        ("layer", "output", "parameters"),
        [("dense", "800", "628,000"), ("logits", 10, "4,010"), None, ("total", "", "632,010")],
        "lrr",
    )
    assert table.split("\n") == [
        "layer   output  parameters",
        "------  ------  ----------",
        "dense      800     628,000",
        "logits      10       4,010",
        "------  ------  ----------",
        "total              632,010",
    ]


def test_no_trailing_spaces_and_no_rows():
    assert format_table(("name", "note"), [("a", "")], "ll").split("\n") == ["name  note", "----  ----", "a"]
    assert format_table(("name",), [], "l") == "name\n----"


def test_wide_and_combining_characters_keep_the_columns():
    assert [text_width(text) for text in ("cat", "猫", "e\u0301te\u0301", "\u200b")] == [3, 2, 3, 0]
    assert format_table(("class", "n"), [("猫猫猫", 1), ("cat", 20)], "lr").split("\n")[2:] == [
        "猫猫猫   1",
        "cat     20",
    ]


def test_a_label_cannot_break_the_line():
    assert printable("a\nb\t\x1b[31m été 猫") == "a\\nb\\t\\x1b[31m été 猫"
    assert format_table(("x",), [("two\nlines",)], "l").count("\n") == 2


@pytest.mark.parametrize(("rows", "align"), [([("a",)], "ll"), ([("a", "b")], "l"), ([("a", "b")], "lc")])
def test_what_does_not_fit_together_is_refused(rows, align):
    with pytest.raises(ValueError, match=r"columns|cells"):
        format_table(("one", "two"), rows, align)


def test_counts():
    assert [format_count(n) for n in (0, 999, 1234567, -1000)] == ["0", "999", "1,234,567", "-1,000"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0454, "45 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (3720, "1 h 02 min"),
        (86399, "1 d 00 h"),
        (2 * 86400 + 3 * 3600, "2 d 03 h"),
        (-185, "-3 min 05 s"),
        (float("inf"), "unknown"),
        (float("nan"), "unknown"),
    ],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (8 * 1024**3, "8.0 GiB"),
        (3000 * 1024**4, "3,000.0 TiB"),
        (-1536, "-1.5 KiB"),
    ],
)
def test_bytes(count, text):
    assert format_bytes(count) == text
