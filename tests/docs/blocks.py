"""Finds the fenced blocks in the Markdown of the documentation, hidden ones included.

What the tests do with a block is in the other modules.
"""

import re
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

_OPENING = re.compile(r" {0,3}(?P<fence>`{3,})(?P<info>[^`]*)")
_HIDDEN = re.compile(r"<!-- (?P<info>terminal \S+)")


@attrs.frozen
class Block:
    """One block. `line` is the line number of its fence, `info` the text after the fence."""

    page: str
    line: int
    info: str
    lines: tuple[str, ...]

    @property
    def kind(self):
        """The first word of the info, without the braces of a directive."""
        return (self.info.split() or [""])[0].strip("{}")

    @property
    def argument(self):
        """The rest of the info."""
        return self.info.partition(" ")[2].strip()

    @property
    def is_directive(self):
        return self.info.startswith("{")

    @property
    def first(self):
        """The first line."""
        return self.lines[0].strip() if self.lines else ""

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks_of(path):
    """The blocks of a page, in order. `<!-- terminal NAME` ... `-->` is a hidden block: readers do not see it."""
    page = path.relative_to(ROOT).as_posix()
    found, opened, ends, lines = [], None, "", []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if opened is not None:
            if _closes(line, ends):
                found.append(Block(page, *opened, tuple(lines)))
                opened = None
            else:
                lines.append(line)
        elif match := _OPENING.fullmatch(line):
            opened, ends, lines = (number, match["info"].strip()), match["fence"], []
        elif match := _HIDDEN.fullmatch(line):
            opened, ends, lines = (number, match["info"]), "-->", []
    if opened is not None:
        raise AssertionError(f"{page}:{opened[0]}: this block does not end")
    return found


def _closes(line, ends):
    stripped = line.strip()
    return stripped == ends or (ends[0] == "`" and stripped.startswith(ends) and not stripped.strip("`"))
