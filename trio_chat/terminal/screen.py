"""The screen and the keyboard: lines read from a file descriptor by a task, lines printed above a plain prompt.

What the lines mean is not known here.
"""

import os
from collections.abc import Callable
from typing import TextIO

import trio

__all__ = ["PROMPT", "LineSplitter", "Screen", "read_lines"]

PROMPT = ">>> "
LONGEST_LINE = 64 * 1024
"""In bytes. The rest of a longer line is dropped; what is left is still too long for a message, and refused as such."""

_CHUNK = 16 * 1024
_CLEAR = "\r\x1b[K"


class Screen:
    """Prints lines to a stream, each one flushed. With `prompt`, as a terminal wants it, a prompt stays below them.

    `mark` stands before each line.
    """

    def __init__(self, stream: TextIO | None = None, *, prompt: bool = False, mark: str = PROMPT) -> None:
        self._stream = stream
        self._prompt = prompt
        self._mark = mark

    def say(self, line: str) -> None:
        """Print one line. Raises BrokenPipeError when nobody reads any more."""
        self._write(f"{_CLEAR}{self._mark}{line}\n{PROMPT}" if self._prompt else f"{self._mark}{line}\n")

    def ask(self) -> None:
        """Show the prompt."""
        if self._prompt:
            self._write(f"{_CLEAR}{PROMPT}")

    def close(self) -> None:
        """Take the prompt away."""
        if self._prompt:
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        print(text, end="", file=self._stream, flush=True)


class LineSplitter:
    """Bytes in, as they come; lines out, without their ends (LF or CR LF), what is not UTF-8 in them replaced."""

    def __init__(self) -> None:
        self._line = bytearray()

    @property
    def inside_a_line(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._line)

    def feed(self, data: bytes) -> list[str]:
        """Take more bytes; return the lines that they end."""
        *ends, beginning = data.split(b"\n")
        lines = []
        for piece in ends:
            self._keep(piece)
            lines.append(self._take().removesuffix("\r"))
        self._keep(beginning)
        return lines

    def end(self) -> list[str]:
        """No more will come; return the last line if it had no end."""
        return [self._take()] if self._line else []

    def _keep(self, piece: bytes) -> None:
        self._line += piece[: LONGEST_LINE - len(self._line)]

    def _take(self) -> str:
        line = self._line.decode(errors="replace")
        self._line.clear()
        return line


async def read_lines(fd: int, lines: trio.MemorySendChannel[str], ask: Callable[[], object] = lambda: None) -> None:
    """Send the lines of a file descriptor to the channel, and close the channel at the end of input.

    `ask` is called before each new line is waited for. Nothing is left behind when this is cancelled: no thread
    that the program would wait for, and the descriptor blocks or not as before.
    """
    splitter = LineSplitter()
    async with lines:
        while True:
            if not splitter.inside_a_line:
                ask()
            data = await _read(fd)
            for line in splitter.feed(data) if data else splitter.end():
                await lines.send(line)
            if not data:
                return


async def _read(fd: int) -> bytes:
    while True:
        try:
            await trio.lowlevel.wait_readable(fd)
            can_be_polled = True
        except OSError:
            # A file, /dev/null, or anything on Windows.
            can_be_polled = False
        try:
            if can_be_polled:
                return os.read(fd, _CHUNK)
            return await trio.to_thread.run_sync(os.read, fd, _CHUNK, abandon_on_cancel=True)
        except BlockingIOError:
            # Someone else made it non-blocking and was quicker.
            continue
        except OSError:
            # The terminal was hung up, or the connection reset: there is no more to come.
            return b""
