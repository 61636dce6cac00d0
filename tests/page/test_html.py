# SPDX-License-Identifier: Apache-2.0
"""Text is escaped wherever it stands; markup is not escaped twice."""

import pytest

from cnnjax.page.html import Html, element, join, table, text


def test_text_and_attributes_are_escaped():
    assert element("p", "a < b & c") == "<p>a &lt; b &amp; c</p>"
    assert element("img", alt='"><script>') == '<img alt="&quot;&gt;&lt;script&gt;">'


def test_markup_stays_and_numbers_are_shown():
    assert element("p", element("b", 3), None, " of ", 4.5) == "<p><b>3</b> of 4.5</p>"
    assert isinstance(element("p"), Html)
    assert join(["<", Html("<br>")]) == "&lt;<br>"


def test_attribute_names_and_flags():
    assert element("td", class_="number", data_x=1, hidden=True, title=None, open=False) == (
        '<td class="number" data-x="1" hidden></td>'
    )


def test_an_empty_alt_text_is_kept():
    assert element("img", alt="") == '<img alt="">'


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\udcff"])
def test_control_characters_are_shown_as_escapes(character: str):
    assert character not in text(f"a{character}b")


def test_a_table_has_headers_for_columns_and_rows():
    shown = table(("name", "count"), [("<i>", "1")], "lr", caption="things", sortable=True)
    assert '<th scope="col"><button type="button">name</button></th>' in shown
    assert '<th scope="row">&lt;i&gt;</th><td class="number">1</td>' in shown
    assert "<caption" in shown and 'tabindex="0"' in shown


def test_a_table_row_of_another_length_is_an_error():
    with pytest.raises(ValueError):
        table(("name", "count"), [("a",)], "lr", caption="things")
