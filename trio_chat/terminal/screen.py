"""Standard input and output without a line editor: lines read from a file descriptor, lines printed to a stream.

What the lines mean is not known here. The prompt of a real terminal is in prompt.py.
"""

import os
from collections.abc import Callable
from typing import TextIO

import trio

from trio_chat.terminal.styling import Line

PROMPT = ">>> "
MAX_LINE = 64 * 1024
"""In bytes. The rest of a longer line is dropped; what is left is still too long for a message, and refused as such."""

_CHUNK = 16 * 1024
_CLEAR_ROW = "\r\x1b[K"


class Screen:
    """Prints lines to a stream, each one flushed. With `prompt`, for a simple terminal, a prompt stays below them.

    `mark` stands before each line.
    """

    def __init__(self, stream: TextIO | None = None, *, prompt: bool = False, mark: str = PROMPT) -> None:
        self._stream = stream
        self._prompt = prompt
        self._mark = mark

    def show(self, line: Line) -> None:
        """Print one line. Raises BrokenPipeError when the reader of the stream is gone."""
        text = f"{self._mark}{line.text}\n"
        self._write(f"{_CLEAR_ROW}{text}{PROMPT}" if self._prompt else text)

    def show_prompt(self) -> None:
        """Show the prompt, if there is one."""
        if self._prompt:
            self._write(f"{_CLEAR_ROW}{PROMPT}")

    def close(self) -> None:
        """Remove the prompt."""
        if self._prompt:
            self._write(_CLEAR_ROW)

    def _write(self, text: str) -> None:
        print(text, end="", file=self._stream, flush=True)


class LineSplitter:
    """Bytes in, in pieces of any size; lines out, without their ends (LF or CR LF).

    Bytes that are not UTF-8 become surrogates, with which nothing is sent.
    """

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
        """The input has ended; return the last line if it had no end."""
        return [self._take()] if self._line else []

    def _keep(self, piece: bytes) -> None:
        # Cut here, not in `_take`: an endless line must not fill the memory.
        self._line += piece[: MAX_LINE - len(self._line)]

    def _take(self) -> str:
        # Decoded only now: a read may end in the middle of a character. So may a line that was cut. What else is not
        # UTF-8 stays recognizable: no message is sent that has other characters than what was written.
        line = self._line.decode(errors="ignore" if len(self._line) == MAX_LINE else "surrogateescape")
        self._line.clear()
        return line


async def read_lines(fd: int, lines: trio.MemorySendChannel[str], ask: Callable[[], object] = lambda: None) -> None:
    """Send the lines of a file descriptor to the channel, and close the channel at the end of input.

    `ask` is called before a new line is waited for. Cancelling leaves nothing behind: no thread for which the program
    would have to wait, and the descriptor is as blocking as before.
    """
    splitter = LineSplitter()
    async with lines:
        while True:
            # Not in the middle of a line: a second prompt would erase what the terminal has echoed.
            if not splitter.inside_a_line:
                ask()
            data = await _read(fd)
            for line in splitter.feed(data) if data else splitter.end():
                await lines.send(line)
            if not data:
                return


async def _read(fd: int) -> bytes:
    # The descriptor stays blocking, and trio.lowlevel.FdStream is not used: O_NONBLOCK belongs to the open file, which
    # the shell and other programs share, and who would find it changed.
    while True:
        try:
            await trio.lowlevel.wait_readable(fd)
            can_be_polled = True
        except OSError:
            # A regular file or /dev/null (epoll refuses them with EPERM), or anything but a socket on Windows.
            can_be_polled = False
        try:
            if can_be_polled:
                return os.read(fd, _CHUNK)
            # Such a read may block all the same: abandoned, it neither holds up the cancellation nor the end.
            return await trio.to_thread.run_sync(os.read, fd, _CHUNK, abandon_on_cancel=True)
        except BlockingIOError:
            # Another program has made the descriptor non-blocking, and has read before us.
            continue
        except OSError:
            # The terminal was hung up (EIO), or the connection reset: nothing more can come.
            return b""
