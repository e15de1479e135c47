"""Reading typed lines while earlier ones are carried out, so that leaving never waits for the server.

What the lines mean is in commands.py; they are carried out in conversation.py.
"""

import math
from collections.abc import AsyncIterable, Callable

import attrs
import trio

from trio_chat.errors import ChatError
from trio_chat.terminal import commands
from trio_chat.terminal.early_lines import EarlyLines

LEAVE_WITHIN = 2.5
"""Seconds after `exit`, or the end of the lines, in which the chat ends, whatever waits for the server."""

PROGRESS_WITHIN = LEAVE_WITHIN
"""So many seconds after the last message has left the outbox, the chat ends at the end of a pipe."""

DEREGISTER_WITHIN = 0.5
"""So many of them, the last ones, are kept for deregistering."""

LINES_AHEAD, LINES_AHEAD_IN_PIPE = 1000, 16
"""How many lines may wait for those before them. At a terminal, which cannot be made to wait, more are refused. A pipe
is not read any further, then: so few of its commands are left at its end that the time suffices for them."""


@attrs.define(eq=False)
class LineReader:
    """Takes typed lines, which `lines` gives to the task that carries them out.

    `exit`, or the end of the lines, sets the deadlines of two scopes: `working` for what is carried out, `staying` for
    the whole chat. At the end of a pipe they are set again for as long as messages leave the outbox. While the chat is
    not open yet, they are set at a terminal, and for a pipe of which nothing is left to do that needs the server; else
    a pipe waits for it. `stay`: the end of the lines ends nothing. `refuse`: called with each line that is not taken.
    `early`: carries out what needs no server, once it is silent, or we leave.
    `unanswered`: the line that is being carried out, if any.
    """

    _typed: AsyncIterable[str]
    _is_terminal: bool
    stay: bool
    _refuse: Callable[[str], object]
    _early: EarlyLines
    working: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)
    staying: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)
    lines: trio.MemoryReceiveChannel[str] = attrs.field(init=False)
    unanswered: list[str] = attrs.field(init=False, factory=list)
    _lines_in: trio.MemorySendChannel[str] = attrs.field(init=False)
    _is_open: bool = attrs.field(init=False, default=False)
    _is_silent: bool = attrs.field(init=False, default=False)
    # No more lines come when both are true: until then some may be taken out, and put back.
    _is_read: bool = attrs.field(init=False, default=False)
    _is_taken: bool = attrs.field(init=False, default=False)
    # One line after the other, whoever takes it.
    _taking: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    _is_leaving: bool = attrs.field(init=False, default=False)
    # Nobody waits for the end, and nobody has said `exit`.
    _has_time: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        size = LINES_AHEAD if self._is_terminal else LINES_AHEAD_IN_PIPE
        self._lines_in, self.lines = trio.open_memory_channel[str](size)

    async def run(self) -> None:
        """Read until `exit` or the end of the lines."""
        async for line in self._typed:
            if _is_exit(line):
                self.stay = False
                break
            async with self._taking:
                await self._take(line)
        else:
            self._has_time = not self._is_terminal
        if not self.stay:
            self._is_leaving = True
            if self._is_terminal:
                await self.server_is_silent()
            self._set_deadlines()
        self._is_read = True
        self._close()

    async def server_is_silent(self) -> None:
        """Carry out what needs no server, of the lines that wait and of all later ones, until the chat is open."""
        if self._is_open:
            return
        self._is_silent = True
        # Before the lock: who has it may wait for room.
        lines = self.left()
        async with self._taking:
            for line in [*lines, *self.left()]:
                await self._take(line)
        self._set_deadlines()

    async def _take(self, line: str) -> None:
        if self._is_silent and not self._is_open:
            if await self._early.carry_out(line):
                return
            if not self._is_leaving:
                self._early.tell_waits(line)
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

    async def all_taken(self) -> None:
        """Wait until no line is being taken that came before the chat was open."""
        async with self._taking:
            self._is_taken = True
            self._close()

    def _close(self) -> None:
        if self._is_read and self._is_taken:
            self._lines_in.close()

    def _set_deadlines(self) -> None:
        is_done = self._is_silent and not self.lines.statistics().current_buffer_used
        may_leave = self._is_open or self._is_terminal or is_done
        if self._is_leaving and may_leave and self.staying.deadline == math.inf:
            self._leave_within(LEAVE_WITHIN)

    def leave_at_once(self) -> None:
        """Leave as after `exit`, but wait for nothing; if the chat is open, there is time to deregister."""
        self.stay = False
        self._leave_within(DEREGISTER_WITHIN if self._is_open else 0)

    def message_left(self) -> None:
        """A message has left the outbox: at the end of a pipe there is time for the next one."""
        if self._has_time and self.staying.deadline < math.inf:
            self._leave_within(PROGRESS_WITHIN)

    def _leave_within(self, seconds: float) -> None:
        self.staying.deadline = trio.current_time() + seconds
        self.working.deadline = self.staying.deadline - DEREGISTER_WITHIN

    def left(self) -> list[str]:
        """The lines that nobody has taken from `lines`; afterwards there are none."""
        return lines_left(self.lines)


def lines_left(lines: trio.MemoryReceiveChannel[str]) -> list[str]:
    """The lines that nobody has taken from a channel; afterwards there are none."""
    left = []
    while lines.statistics().current_buffer_used:
        left.append(lines.receive_nowait())
    return left


def _is_exit(line: str) -> bool:
    try:
        return isinstance(commands.parse(line), commands.Exit)
    except ChatError:
        return False
