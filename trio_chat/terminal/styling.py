"""What a line is, and how a terminal shows it: its tone, whose name begins where, whether it is meant for us.

Styles only: the words are the phrasebook's, and nothing is written here.
"""

import enum
import re
import zlib

__all__ = ["COLOURS", "Line", "LineStyle", "colour_of", "mentions", "styled"]

Fragment = tuple[str, str]
"""A style of prompt_toolkit, and the plain text that has it."""

COLOURS = (
    *("#af5f00", "#5f8700", "#008700", "#00875f", "#008787", "#0087af"),
    *("#005fff", "#875fff", "#af5faf", "#d700d7", "#d70087"),
)
"""Some of the 256 of terminals that can be read on black and on white; none is red."""

_NAME = "bold"
_MENTION = "bold reverse"


class LineStyle(enum.Enum):
    """What a line is."""

    PLAIN = "what was asked for"
    DIRECT = "a person's message to us alone"
    GROUP = "a person's message to everyone"
    SYSTEM = "the routine of the system"
    TROUBLE = "something was not done"
    WARNING = "somebody may be lying"


_STYLES = {
    LineStyle.PLAIN: "",
    LineStyle.DIRECT: "bold",
    LineStyle.GROUP: "",
    LineStyle.SYSTEM: "dim",
    LineStyle.TROUBLE: "#ff0000",
    LineStyle.WARNING: "bold #ff0000",
}


class Line(str):
    """The text of a line that is said, and how it is meant. To whom it is only text, it is.

    `name` is who is named in it (empty: nobody), from the place `at` on; `mention`, what stands behind that and is to
    be marked. `rings`: it is for the owner of this client above all.
    """

    __slots__ = ("at", "mention", "name", "rings", "tone")

    def __new__(
        cls, text: str, tone: LineStyle, name: str = "", at: int = 0, *, mention: str = "", rings: bool = False
    ) -> "Line":
        """A line of these facts."""
        line = super().__new__(cls, text)
        line.tone, line.name, line.at, line.mention, line.rings = tone, name, at, mention, rings
        return line

    tone: LineStyle
    name: str
    at: int
    mention: str
    rings: bool

    def calling(self, mention: str = "") -> "Line":
        """The same line, meant for the owner of this client."""
        return Line(self, self.tone, self.name, self.at, mention=mention, rings=True)


def colour_of(name: str) -> str:
    """The colour of a name: the same one everywhere and always, in whatever case it is written."""
    return COLOURS[zlib.crc32(name.lower().encode(errors="replace")) % len(COLOURS)]


def mentions(text: str, name: str) -> bool:
    """Whether the name is in the text as a word of its own, in any case, and not as a part of another name."""
    return bool(name) and _mention(name).search(text) is not None


def styled(text: str) -> list[Fragment]:
    """The fragments of a line; together they are its text."""
    if not isinstance(text, Line):
        return [("", text)]
    tone = _STYLES[text.tone]
    end = text.at + len(text.name)
    fragments = [(tone, text[: text.at]), (f"{_NAME} {colour_of(text.name)}", text[text.at : end])]
    rest = text[end:]
    if text.mention and (found := _mention(text.mention).search(rest)):
        fragments += [("bold", rest[: found.start()]), (_MENTION, found[0])]
        tone, rest = "bold", rest[found.end() :]
    return [fragment for fragment in [*fragments, (tone, rest)] if fragment[1]]


def _mention(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?<!\w[.-]){re.escape(name)}(?![.-]?\w)", re.IGNORECASE)
