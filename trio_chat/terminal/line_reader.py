"""Reading typed lines while earlier ones are carried out, so that leaving never waits for the server.

What the lines mean is in commands.py; they are carried out in conversation.py.
"""

import math
from collections.abc import AsyncIterable, Callable

import attrs
import trio

from trio_chat.errors import ChatError
from trio_chat.terminal import commands

LEAVE_WITHIN = 2.5
"""Seconds after `exit`, or the end of the lines, in which the chat ends, whatever waits for the server."""

DEREGISTER_WITHIN = 0.5
"""So many of them, the last ones, are kept for deregistering."""

LINES_AHEAD, LINES_AHEAD_IN_PIPE = 1000, 16
"""How many lines may wait for those before them. At a terminal, which cannot be made to wait, more are refused. A pipe
is not read any further, then: so few of its commands are left at its end that the time suffices for them."""


@attrs.define(eq=False)
class LineReader:
    """Takes typed lines, which `lines` gives to the task that carries them out.

    `exit`, or the end of the lines, sets the deadlines of two scopes: `working` for what is carried out, `staying` for
    the whole chat. While the chat is not open yet, that is so at a terminal only: a pipe waits for the server.
    `stay`: the end of the lines ends nothing. `refuse`: called with each line that is not taken.
    """

    _typed: AsyncIterable[str]
    _is_terminal: bool
    stay: bool
    _refuse: Callable[[str], object]
    working: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)
    staying: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)
    lines: trio.MemoryReceiveChannel[str] = attrs.field(init=False)
    _lines_in: trio.MemorySendChannel[str] = attrs.field(init=False)
    _is_open: bool = attrs.field(init=False, default=False)
    _is_leaving: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        size = LINES_AHEAD if self._is_terminal else LINES_AHEAD_IN_PIPE
        self._lines_in, self.lines = trio.open_memory_channel[str](size)

    async def run(self) -> None:
        """Read until `exit` or the end of the lines."""
        with self._lines_in:
            async for line in self._typed:
                if _is_exit(line):
                    self.stay = False
                    break
                await self._take(line)
        if not self.stay:
            self._is_leaving = True
            self._set_deadlines()

    async def _take(self, line: str) -> None:
        if not self._is_terminal:
            await self._lines_in.send(line)
            return
        try:
            self._lines_in.send_nowait(line)
        except trio.WouldBlock:
            self._refuse(line)

    def opened(self) -> None:
        """The chat is open."""
        self._is_open = True
        self._set_deadlines()

    def _set_deadlines(self) -> None:
        if self._is_leaving and (self._is_open or self._is_terminal) and self.staying.deadline == math.inf:
            self.staying.deadline = trio.current_time() + LEAVE_WITHIN
            self.working.deadline = self.staying.deadline - DEREGISTER_WITHIN

    def left(self) -> list[str]:
        """The lines that nobody has taken from `lines`; afterwards there are none."""
        left = []
        while self.lines.statistics().current_buffer_used:
            left.append(self.lines.receive_nowait())
        return left


def _is_exit(line: str) -> bool:
    try:
        return isinstance(commands.parse(line), commands.Exit)
    except ChatError:
        return False
