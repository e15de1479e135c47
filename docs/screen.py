"""A small terminal emulator: takes a program's output, keeps cells with colours, and draws them as SVG.

It knows the escape sequences that our client and prompt_toolkit use, and skips all others.
"""

import re
from collections.abc import Iterator
from html import escape
from itertools import groupby

import attrs

_PIECES = re.compile(
    r"\x1b\[(?P<private>[?>=]?)(?P<numbers>[\d;]*)[ !]?(?P<final>[@-~])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][0-9A-B]|\x1b[=>DEHM]|\x1b(?P<cursor>[78])"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])|(?P<text>[^\x00-\x1f\x7f]+)"
)
_BASIC = (
    *("#000000", "#d0524f", "#5fa35b", "#c5a03f", "#4f86c6", "#a86fb8", "#4fa5a5", "#d7dde4"),
    *("#6b7683", "#ef7370", "#82c77d", "#e6c566", "#77a9e0", "#c792d6", "#74c7c7", "#ffffff"),
)


@attrs.frozen
class Style:
    """How a cell looks. A colour is `#rrggbb`, or None for the terminal's default."""

    colour: str | None = None
    background: str | None = None
    bold: bool = False
    dim: bool = False
    reverse: bool = False
    underlined: bool = False


PLAIN = Style()
Cell = tuple[str, Style]
BLANK: Cell = (" ", PLAIN)


class Screen:
    """The cells of a terminal, and where its cursor is."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self.cells = [[BLANK] * columns for _ in range(rows)]
        self.row = 0
        self.column = 0
        self.bells = 0
        self.answers: list[bytes] = []
        """Replies to the program's questions, such as where the cursor is. They must be written to its input."""
        self._style = PLAIN
        self._saved = 0, 0
        self._rest = ""

    def feed(self, data: str) -> None:
        """Handle output of the program. An escape sequence may be cut anywhere; its rest comes with the next call."""
        data = self._rest + data
        cut = data.rfind("\x1b")
        if cut >= 0 and not _PIECES.match(data, cut):
            data, self._rest = data[:cut], data[cut:]
        else:
            self._rest = ""
        for piece in _PIECES.finditer(data):
            if piece["text"]:
                self._write(piece["text"])
            elif piece["control"]:
                self._control(piece["control"])
            elif piece["cursor"] == "7":
                self._saved = self.row, self.column
            elif piece["cursor"]:
                self.row, self.column = self._saved
            elif piece["final"] and not piece["private"]:
                numbers = [int(number or 0) for number in piece["numbers"].split(";")]
                self._command(piece["final"], numbers)

    def lines(self) -> list[str]:
        """The text of each row, without trailing blanks."""
        return ["".join(text for text, _ in row).rstrip() for row in self.cells]

    def _write(self, text: str) -> None:
        for character in text:
            if self.column == self.columns:
                self.column = 0
                self._down()
            self.cells[self.row][self.column] = (character, self._style)
            self.column += 1

    def _control(self, control: str) -> None:
        match control:
            case "\r":
                self.column = 0
            case "\n":
                self._down()
            case "\b":
                self.column = max(0, self.column - 1)
            case "\a":
                self.bells += 1

    def _down(self) -> None:
        if self.row < self.rows - 1:
            self.row += 1
        else:
            self.cells = [*self.cells[1:], [BLANK] * self.columns]

    def _command(self, final: str, numbers: list[int]) -> None:
        number = numbers[0]
        many = number or 1
        match final:
            case "A" | "B" | "C" | "D" | "G" | "d" | "H" | "f":
                self._move(final, many, numbers)
            case "J":
                self._clear(self.row + 1 if number == 0 else 0, self.rows)
                self._clear_line(number)
            case "K":
                self._clear_line(number)
            case "L":
                self.cells[self.row : self.row] = [[BLANK] * self.columns for _ in range(many)]
                self.cells = self.cells[: self.rows]
            case "m":
                self._style = _styled(self._style, numbers)
            case "n" if number == 6:
                self.answers.append(f"\x1b[{self.row + 1};{self.column + 1}R".encode())

    def _move(self, final: str, many: int, numbers: list[int]) -> None:
        match final:
            case "A":
                self.row -= many
            case "B":
                self.row += many
            case "C":
                self.column += many
            case "D":
                self.column -= many
            case "G":
                self.column = many - 1
            case "d":
                self.row = many - 1
            case _:
                self.row, self.column = many - 1, (numbers[1] or 1) - 1 if len(numbers) > 1 else 0
        self.row = min(max(self.row, 0), self.rows - 1)
        self.column = min(max(self.column, 0), self.columns - 1)

    def _clear(self, first: int, end: int) -> None:
        for row in range(first, end):
            self.cells[row] = [BLANK] * self.columns

    def _clear_line(self, number: int) -> None:
        first = self.column if number == 0 else 0
        end = self.column + 1 if number == 1 else self.columns
        self.cells[self.row][first:end] = [BLANK] * (end - first)


def _styled(style: Style, numbers: list[int]) -> Style:
    """The style after an SGR sequence (`ESC [ ... m`) with these numbers."""
    left = iter(numbers)
    for number in left:
        match number:
            case 0:
                style = PLAIN
            case 1 | 2 | 4 | 7:
                style = attrs.evolve(style, **{{1: "bold", 2: "dim", 4: "underlined", 7: "reverse"}[number]: True})
            case 22:
                style = attrs.evolve(style, bold=False, dim=False)
            case 24:
                style = attrs.evolve(style, underlined=False)
            case 27:
                style = attrs.evolve(style, reverse=False)
            case 38 | 48:
                name = "colour" if number == 38 else "background"
                style = attrs.evolve(style, **{name: _colour(left)})
            case 39 | 49:
                style = attrs.evolve(style, **{"colour" if number == 39 else "background": None})
            case _ if 30 <= number <= 37 or 90 <= number <= 97:
                style = attrs.evolve(style, colour=_BASIC[number - 30 if number < 90 else number - 82])
            case _ if 40 <= number <= 47 or 100 <= number <= 107:
                style = attrs.evolve(style, background=_BASIC[number - 40 if number < 100 else number - 92])
    return style


def _colour(left: Iterator[int]) -> str | None:
    """The colour after 38 or 48: one of 256, or red, green and blue."""
    if next(left, 0) == 2:
        return "#" + "".join(f"{next(left, 0):02x}" for _ in range(3))
    number = next(left, 0)
    if number < 16:
        return _BASIC[number]
    if number >= 232:
        return "#" + f"{8 + 10 * (number - 232):02x}" * 3
    steps = (0, 95, 135, 175, 215, 255)
    red, green, blue = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
    return f"#{steps[red]:02x}{steps[green]:02x}{steps[blue]:02x}"


# --- as SVG ---

WIDE, HIGH, BORDER, BAR = 8.4, 19, 16, 34
PAPER, INK = "#1b222c", "#d7dde4"
_STYLE = f"""
  text {{ font: 14px "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: {INK}; white-space: pre; }}
  .bold {{ font-weight: 700; }}
  .title {{ font-size: 12px; fill: #93a1ae; }}
"""


def as_svg(screen: Screen, title: str, description: str) -> str:
    """The screen in a window with this title.

    `textLength` makes each text as wide as its cells, whatever font the reader has.
    """
    width, height = round(screen.columns * WIDE + 2 * BORDER), BAR + screen.rows * HIGH + BORDER
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
        f"<title>{escape(description)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect fill="{PAPER}" x="0" y="0" width="{width}" height="{height}" rx="9"/>',
        *(
            f'<circle fill="{colour}" cx="{18 + 18 * number}" cy="17" r="5.5"/>'
            for number, colour in enumerate(("#e0645c", "#e0b341", "#5fb35b"))
        ),
        f'<text class="title" x="{width / 2:.0f}" y="21" text-anchor="middle">{escape(title)}</text>',
    ]
    for number, row in enumerate(screen.cells):
        column = 0
        for style, cells in groupby(row, key=lambda cell: cell[1]):
            text = "".join(character for character, _ in cells)
            drawn += _piece(text, style, column, BAR + HIGH * number)
            column += len(text)
    x, y = BORDER + screen.column * WIDE, BAR + HIGH * screen.row
    drawn.append(f'<rect fill="{INK}" x="{x:.1f}" y="{y + 3}" width="{WIDE}" height="{HIGH - 3}"/>')
    return "\n".join([*drawn, "</svg>", ""])


def _piece(text: str, style: Style, column: int, top: int) -> list[str]:
    colour, background = style.colour, style.background
    if style.reverse:
        colour, background = background or PAPER, colour or INK
    x, drawn = BORDER + column * WIDE, []
    if background:
        wide = len(text) * WIDE
        drawn.append(f'<rect fill="{background}" x="{x:.1f}" y="{top + 2}" width="{wide:.1f}" height="{HIGH}"/>')
    if not text.strip():
        return drawn
    x += (len(text) - len(text.lstrip())) * WIDE
    text = text.strip()
    # Not `fill="..."`: the style sheet's rule for `text` would override a presentation attribute.
    looks = [f'style="fill: {colour}"'] if colour else []
    looks += ['class="bold"'] if style.bold else []
    looks += ['opacity="0.62"'] if style.dim else []
    place = f'x="{x:.1f}" y="{top + 16}" textLength="{len(text) * WIDE:.1f}" lengthAdjust="spacingAndGlyphs"'
    return [*drawn, f"<text {' '.join([*looks, place])}>{escape(text, quote=False)}</text>"]
