"""Lines and how a terminal styles them: the kind of a line, the colour of a name, a mention of the reader.

The texts are made in wordings.py and json_lines.py; nothing is written to a terminal here.
"""

import enum
import re
import zlib

import attrs

from trio_chat.protocol.records import fold

Fragment = tuple[str, str]
"""A style of prompt_toolkit, and the plain text that has it."""

LINE_END = re.compile(r"\r\n?|\n")
"""What ends a line in a text: LF, CR LF or CR alone."""

COLOURS = (
    *("#af5f00", "#5f8700", "#008700", "#00875f", "#008787", "#0087af"),
    *("#005fff", "#875fff", "#af5faf", "#d700d7", "#d70087"),
)
"""Those of a terminal's 256 colours that can be read on black and on white. Red is left out: it means an error."""


class LineStyle(enum.Enum):
    """The kind of a line, which decides how it is styled."""

    PLAIN = "the answer to a question"
    DIRECT = "a person's message to the reader alone"
    GROUP = "a person's message to everyone"
    SYSTEM = "the routine of the system"
    ERROR = "something was not done"
    WARNING = "somebody may be lying"


_STYLES = {
    LineStyle.PLAIN: "",
    LineStyle.DIRECT: "bold",
    LineStyle.GROUP: "",
    LineStyle.SYSTEM: "dim",
    LineStyle.ERROR: "#ff0000",
    LineStyle.WARNING: "bold #ff0000",
}


@attrs.frozen
class Line:
    """One line to show: its text, already escaped and without a line end, and what its styling needs to know.

    `name` is the person named in it (empty: nobody), who begins at `name_at` in the text; `mention` is a name to mark
    after that. `rings`: the terminal's bell calls the reader.
    """

    text: str
    style: LineStyle = LineStyle.PLAIN
    name: str = ""
    name_at: int = 0
    mention: str = ""
    rings: bool = False


def colour_of(name: str) -> str:
    """The colour of a name: always the same one, in whatever case the name is written."""
    return COLOURS[zlib.crc32(fold(name).encode(errors="replace")) % len(COLOURS)]


def mentions(text: str, name: str) -> bool:
    """Whether the name is in the text as a word of its own, in any case, and not as a part of another name."""
    return bool(name) and _mention(name).search(text) is not None


def styled(line: Line) -> list[Fragment]:
    """The fragments of a line; together they are its text."""
    style, end = _STYLES[line.style], line.name_at + len(line.name)
    fragments = [(style, line.text[: line.name_at]), (f"bold {colour_of(line.name)}", line.text[line.name_at : end])]
    # Only what comes after the name can mention somebody: a sender may have the reader's name.
    rest = line.text[end:]
    if line.mention and (found := _mention(line.mention).search(rest)):
        fragments += [("bold", rest[: found.start()]), ("bold reverse", found[0])]
        style, rest = "bold", rest[found.end() :]
    return [fragment for fragment in [*fragments, (style, rest)] if fragment[1]]


def _mention(name: str) -> re.Pattern[str]:
    # A name may contain `.` and `-`, so `\b` would find bob in bob-2; but a sentence may end with `bob.`.
    return re.compile(rf"(?<!\w)(?<!\w[.-]){re.escape(name)}(?![.-]?\w)", re.IGNORECASE)
