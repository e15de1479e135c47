"""The picture of the terminal shows what the client prints, with its colours.

The chat in the picture is real: clock times, ports and fingerprints are not compared.
"""

import base64
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from docs.picture import PICTURE, capture
from docs.screen import Screen, as_svg
from tests.docs.blocks import ROOT
from tests.docs.comparing import without_changing


@pytest.mark.docs
def test_the_picture_is_what_the_terminal_shows_now():
    now = without_changing(capture()).splitlines()
    assert without_changing(PICTURE.read_text(encoding="utf-8")).splitlines() == now, "run python -m docs.picture"


def test_the_picture_comes_before_the_first_command():
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
def test_a_screen_shows_the_same_as_a_terminal(written, lines):
    assert a_screen(*written).lines() == lines


def test_colours_and_weights_are_drawn():
    svg = as_svg(a_screen("\x1b[1;38;5;196mred\x1b[0m <b> \x1b[38;2;1;2;3;7mx"), "title", "what it shows")
    texts = ElementTree.fromstring(svg).findall("{*}text")  # noqa: S314  (our own picture)
    assert [(text.text, text.get("style"), text.get("class")) for text in texts[1:]] == [
        ("red", "fill: #ff0000", "bold"),
        ("<b>", None, None),
        ("x", "fill: #1b222c", None),
    ]
    assert 'fill="#010203"' in svg
    assert "fill=" not in svg.partition("<text")[2].partition(">")[0], "a style sheet overrides this attribute"


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PIXELS = """<img id="picture" src="data:image/svg+xml;base64,{}"><pre id="result"></pre><script>
onload = () => {{
  const canvas = document.createElement("canvas");
  canvas.width = picture.naturalWidth, canvas.height = picture.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const found = new Set(), bytes = context.getImageData(0, 0, canvas.width, canvas.height).data;
  for (let i = 0; i < bytes.length; i += 4) found.add(bytes.slice(i, i + 3).join(","));
  result.textContent = [...found].join(";");
}}
</script>"""


@pytest.mark.docs
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed to draw the picture")
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_a_browser_draws_the_colours(tmp_path, scheme):
    wanted = set(re.findall(r'<text style="fill: (#\w+)"', PICTURE.read_text(encoding="utf-8")))
    assert len(wanted) >= 3
    drawn = colours_in_browser(PICTURE.read_bytes(), tmp_path, scheme)
    missing = {colour for colour in wanted if not any(is_close(parsed(colour), pixel) for pixel in drawn)}
    assert missing == set()


def colours_in_browser(svg, folder, scheme):
    """The colours of all pixels that Chromium draws."""
    page = folder / "page.html"
    page.write_text(PIXELS.format(base64.b64encode(svg).decode()))
    quiet = ("disable-quic", "no-first-run", "disable-background-networking", "disable-component-update")
    options = ("headless", "no-sandbox", "disable-gpu", "disable-sync", *quiet, "dump-dom")
    command = [BROWSER, *(f"--{option}" for option in options), f"--blink-settings=preferredColorScheme={scheme}"]
    command += [f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r'id="result">([\d,;]+)<', done.stdout)
    return [tuple(map(int, pixel.split(","))) for pixel in found[1].split(";")]


def parsed(colour):
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def is_close(one, other):
    """Letters are drawn with smooth edges, so few pixels have exactly the colour of the text."""
    return all(abs(a - b) <= 24 for a, b in zip(one, other, strict=True))


def test_a_program_that_asks_for_the_cursor_gets_an_answer():
    assert a_screen("ab\r\nc\x1b[6n").answers == [b"\x1b[2;2R"]
