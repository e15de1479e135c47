"""A pseudo terminal whose screen is drawn in memory, as a person would see it.

It knows the control sequences that prompt_toolkit writes at a prompt, and fails at any other one.
"""

import fcntl
import os
import re
import select
import struct
import termios
from contextlib import suppress

import trio

_SEQUENCE = re.compile(r"\x1b(?:\[(?P<private>\??)(?P<numbers>[\d;]*)(?P<command>[A-Za-z])|(?P<cursor>[78]))")
_PATIENCE = 60


class Picture:
    """Rows of characters and a cursor; rows that have scrolled off the top are in `above`."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.above = []
        self.bells = 0
        self.modes = set()
        self._grid = [[" "] * columns for _ in range(rows)]
        self._x = self._y = 0
        self._saved = 0, 0
        self._rest = ""

    @property
    def lines(self):
        """The rows on the screen, without blanks at their ends, and without empty rows at the bottom."""
        lines = ["".join(row).rstrip() for row in self._grid]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def everything(self):
        """The same, and the rows that have scrolled off the top."""
        return self.above + self.lines

    def resize(self, columns, rows):
        """Cut or fill the rows, as a terminal that does not wrap its lines again; the bottom rows remain."""
        while len(self._grid) > rows and self._y < len(self._grid) - 1:
            self._grid.pop()
        while len(self._grid) > rows:
            self.above.append("".join(self._grid.pop(0)).rstrip())
            self._y -= 1
        self._grid += [[] for _ in range(rows - len(self._grid))]
        self._grid = [(row + [" "] * columns)[:columns] for row in self._grid]
        self.columns, self.rows = columns, rows
        self._x = min(self._x, columns - 1)

    def feed(self, text):
        """Draw what was written."""
        text, self._rest = self._rest + text, ""
        place = 0
        while place < len(text):
            if text[place] != "\x1b":
                self._put(text[place])
                place += 1
            elif found := _SEQUENCE.match(text, place):
                if found["cursor"]:
                    self._save_or_restore(found["cursor"])
                else:
                    self._obey(found["private"], found["numbers"], found["command"])
                place = found.end()
            elif len(text) - place < 20:
                self._rest = text[place:]
                return
            else:
                raise AssertionError(f"an unknown sequence: {text[place : place + 20]!r}")

    def _put(self, character):
        match character:
            case "\r":
                self._x = 0
            case "\n":
                self._down()
            case "\b":
                self._x = max(0, self._x - 1)
            case "\a":
                self.bells += 1
            case _:
                assert character.isprintable(), f"a control character: {character!r}"
                if self._x >= self.columns:
                    self._x = 0
                    self._down()
                self._grid[self._y][self._x] = character
                self._x += 1

    def _down(self):
        if self._y < self.rows - 1:
            self._y += 1
        else:
            self.above.append("".join(self._grid.pop(0)).rstrip())
            self._grid.append([" "] * self.columns)

    def _obey(self, private, numbers, command):
        number = int(numbers.split(";")[0] or 0)
        count = number or 1
        self._x = min(self._x, self.columns - 1) if command in "ABCDJK" else self._x
        match private + command:
            case "A":
                self._y = max(0, self._y - count)
            case "B":
                self._y = min(self.rows - 1, self._y + count)
            case "C":
                self._x = min(self.columns - 1, self._x + count)
            case "D":
                self._x = max(0, self._x - count)
            case "J" if number == 0:
                if (self._x, self._y) == (0, 0):
                    self._keep_above()
                self._erase_row()
                for row in self._grid[self._y + 1 :]:
                    row[:] = [" "] * self.columns
            case "J" if number == 2:
                self._keep_above()
                self._grid = [[" "] * self.columns for _ in range(self.rows)]
            case "H" if set(numbers) <= set("01;"):
                self._x = self._y = 0
            case "K" if number == 0:
                self._erase_row()
            case "?h":
                self.modes.add(numbers)
            case "?l":
                self.modes.discard(numbers)
            case "m":
                pass
            case other:
                raise AssertionError(f"an unknown command: {numbers}{other}")

    def _keep_above(self):
        """What is erased with the whole screen is still there above it: tmux does this, other terminals do not."""
        self.above += self.lines

    def _save_or_restore(self, which):
        if which == "7":
            self._saved = self._x, self._y
        else:
            self._x, self._y = self._saved

    def _erase_row(self):
        self._grid[self._y][self._x :] = [" "] * (self.columns - self._x)


class PseudoTerminal:
    """A pseudo terminal: `fd` is for the program, `picture` is what a person sees, `raw` all that was written."""

    def __init__(self, columns=80, rows=24):
        self.controller, self.fd = os.openpty()
        self._set_size(columns, rows)
        self.before = termios.tcgetattr(self.fd)
        self.picture = Picture(columns, rows)
        self.raw = b""
        self._reads = True
        self._drawn = trio.Event()

    @property
    def is_as_before(self):
        """Whether the modes of the terminal (what `stty -a` shows) are those from before the program."""
        return termios.tcgetattr(self.fd) == self.before

    def open(self):
        """Open the terminal as standard input for a program in this process."""
        return open(os.dup(self.fd))

    def resize(self, columns, rows):
        """Resize the window."""
        self._set_size(columns, rows)
        self.picture.resize(columns, rows)

    def _set_size(self, columns, rows):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def stop(self):
        """Read nothing more from the program, as after Ctrl-S."""
        self._reads = False

    def go_on(self):
        """Read again, as after Ctrl-Q."""
        self._reads = True

    async def show(self):
        """Draw what the program writes, until cancelled."""
        rest = b""
        while True:
            await trio.lowlevel.wait_readable(self.controller)
            if not self._reads:
                await trio.sleep(0.01)
                continue
            data = os.read(self.controller, 65536)
            self.raw += data
            text, rest = _decoded(rest + data)
            self.picture.feed(text)
            self._drawn.set()
            self._drawn = trio.Event()

    async def has_drawn(self):
        """Wait until everything that was written is on the screen; `show` must be running."""
        while select.select([self.controller], [], [], 0)[0]:  # noqa: ASYNC110 - no event tells that nothing more comes
            await trio.sleep(0.001)

    def type(self, keys):
        """Type these keys."""
        os.write(self.controller, keys.encode())

    def paste(self, text):
        """Paste this text, as a terminal with bracketed paste does."""
        self.type(f"\x1b[200~{text}\x1b[201~")

    async def sees(self, is_there):
        """Wait until a line is on the screen, or until a function of the picture is true; return the picture."""
        wanted = is_there if callable(is_there) else lambda picture: is_there in picture.lines
        with trio.move_on_after(_PATIENCE):
            while not wanted(self.picture):
                await self._drawn.wait()
            return self.picture
        shown = "\n".join(self.picture.everything[-30:])
        raise AssertionError(f"never seen: {is_there!r}; the screen shows\n{shown}")

    def close(self):
        """Close the window."""
        for fd in (self.controller, self.fd):
            with suppress(OSError):
                os.close(fd)


def _decoded(data):
    for size in range(4):
        with suppress(UnicodeDecodeError):
            return data[: len(data) - size].decode(), data[len(data) - size :]
    raise AssertionError(f"not UTF-8: {data!r}")
