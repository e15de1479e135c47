"""The picture of the terminal shows what the client shows."""

import xml.etree.ElementTree as ElementTree

import pytest

from docs.picture import PICTURE, capture
from docs.screen import Screen, as_svg
from tests.docs.blocks import ROOT
from tests.docs.comparing import without_changing


def test_the_picture_is_what_the_terminal_shows_now():
    now = without_changing(capture()).splitlines()
    assert without_changing(PICTURE.read_text(encoding="utf-8")).splitlines() == now, "run python -m docs.picture"


def test_it_is_the_first_thing_that_a_reader_sees():
    for page, path in (("README.md", "docs/_static/terminal.svg"), ("docs/index.md", "_static/terminal.svg")):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert path in text.partition("\n## ")[0]
        assert "```console" not in text.partition(path)[0]


def a_screen(*written, columns=10, rows=3):
    screen = Screen(columns, rows)
    for piece in written:
        screen.feed(piece)
    return screen


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        (("one\r\ntwo",), ["one", "two", ""]),
        (("1\r\n2\r\n3\r\n4",), ["2", "3", "4"]),
        (("0123456789ab",), ["0123456789", "ab", ""]),
        (("typing\r\x1b[K>>> hi",), [">>> hi", "", ""]),
        (("one\r\ntwo\x1b[A\x1b[2DX",), ["oXe", "two", ""]),
        (("one\r\ntwo\x1b[1;1H\x1b[J",), ["", "", ""]),
        (("\x1b[?2004h\x1b]0;title\x07\x1b", "[1mbold\x1b[0", "m"), ["bold", "", ""]),
    ],
)
def test_a_screen_shows_what_a_terminal_would(written, lines):
    assert a_screen(*written).lines() == lines


def test_colours_and_weights_are_drawn():
    svg = as_svg(a_screen("\x1b[1;38;5;196mred\x1b[0m <b> \x1b[38;2;1;2;3;7mx"), "title", "what it shows")
    texts = ElementTree.fromstring(svg).findall("{*}text")  # noqa: S314  (it is ours)
    assert [(text.text, text.get("style"), text.get("class")) for text in texts[1:]] == [
        ("red", "fill: #ff0000", "bold"),
        ("<b>", None, None),
        ("x", "fill: #1b222c", None),
    ]
    assert 'fill="#010203"' in svg


def test_who_asks_where_the_cursor_is_gets_an_answer():
    assert a_screen("ab\r\nc\x1b[6n").answers == [b"\x1b[2;2R"]
