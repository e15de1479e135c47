"""The server's print-outs of its client table, which never make the server wait for their reader.

A change of the table is printed at once. Under a flood, and while nobody reads the output, changes are gathered, and
the next print-out shows the newest state. The server itself is in cli/server.py.
"""

import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TextIO

import trio

from trio_chat.protocol.limits import Rate
from trio_chat.protocol.records import EntryKind, Record, fold
from trio_chat.protocol.token_buckets import TokenBuckets
from trio_chat.server.sessions import RoomEvent
from trio_chat.tasks import WakeUp
from trio_chat.terminal.screen import PROMPT

WHOLE_TABLE = 50
"""Up to this many names, each print-out shows the whole table; above it, only the changed rows."""
PRINTOUTS_PER_SECOND = 10
PRINTOUT_BURST = 20
"""How many changes in a row are printed one by one before the rate applies."""
STALL = 1.0
"""Seconds. If a print-out takes longer, the reader has stopped, and learns how many changes the next one shows."""
ROOM_LINES = 100
"""How many changes of rooms wait to be printed. Beyond that they are only counted."""
LAST_PRINTOUT = 0.5
"""Seconds by which the last print-out may delay the end of the server."""


ROOM_WORDS = {
    EntryKind.CREATED: "[Client {name} created group {room} successfully]",
    EntryKind.JOINED: "[Client {name} joined group {room}]",
    EntryKind.LEFT: "[Client {name} left group {room}]",
    EntryKind.EPOCH: "[Client {name} changed who is in group {room}]",
}

_Row = tuple[str, str, int, bool]


class OutputThread:
    """A standard stream, written by a thread: only the task that writes waits for the reader."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._one_thread = trio.CapacityLimiter(1)

    async def write(self, text: str) -> None:
        """Write all of the text; when cancelled, leave it to the thread. Raises OSError."""
        if self._stream is None:  # closed by the parent process
            return
        data = text.replace("\n", os.linesep).encode(self._stream.encoding, self._stream.errors or "strict")
        # The stream's own `write` would hold the lock of its buffer for as long as nobody reads, and the interpreter
        # aborts if it finds the lock held when it flushes the buffer at its end. The limiter keeps a thread that was
        # left alone from being overtaken: trio gives its token back when the thread ends, not when we do.
        await trio.to_thread.run_sync(
            _write_all, self._stream.fileno(), data, abandon_on_cancel=True, limiter=self._one_thread
        )


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


class TableView:
    """The server's client table as its print-outs show it."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._rows: dict[str, _Row] = {}
        self.update(*records)

    def update(self, *records: Record) -> str:
        """Put in rows that are new or have changed; return the print-out.

        Above 50 names it shows these rows alone, and None for a name that was deleted.
        """
        changed: dict[str, _Row | None] = {}
        for record in records:
            row = (record.name, record.host, record.port, record.online)
            if record.deleted:
                self._rows.pop(fold(record.name), None)
            else:
                self._rows[fold(record.name)] = row
            changed[record.name] = None if record.deleted else row
        shown = {row[0]: row for row in self._rows.values()} if len(self._rows) <= WHOLE_TABLE else changed
        return f"{PROMPT}[Client table updated.]\n{shown}\n"


class TablePrinter:
    """Prints the changes of a table by `write`, which may wait for its reader for any time."""

    def __init__(self, view: TableView, write: Callable[[str], Awaitable[object]]) -> None:
        self._view = view
        self._write = write
        self._rate = TokenBuckets(Rate(PRINTOUT_BURST, PRINTOUTS_PER_SECOND))
        # The newest row of each name, and how many changes it stands for: never more than the table has names.
        self._waiting: dict[str, tuple[Record, int]] = {}
        self._rooms: list[RoomEvent] = []
        self._rooms_left_out = 0
        self._wake_up = WakeUp()

    async def run(self, changes: trio.MemoryReceiveChannel[Record | RoomEvent]) -> None:
        """Print changes until the channel is closed. Raises what `write` raises, in an exception group."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._print_changes)
            # This task never waits for the reader: the server drops changes when the channel is full.
            async for change in changes:
                match change:
                    case Record():
                        _, count = self._waiting.pop(fold(change.name), (change, 0))
                        self._waiting[fold(change.name)] = (change, count + 1)
                    case _ if len(self._rooms) < ROOM_LINES:
                        self._rooms.append(change)
                    case _:
                        self._rooms_left_out += 1
                self._wake_up.set()
            nursery.cancel_scope.cancel()

    async def _print_changes(self) -> None:
        is_stalled = False
        try:
            while True:
                await self._wake_up.wait()
                while self._waiting or self._rooms:
                    count = len(self._waiting) if is_stalled else 1
                    while not self._rate.take("", trio.current_time()):
                        await trio.sleep(1 / PRINTOUTS_PER_SECOND)
                        count = len(self._waiting)
                    # Between here and the thread nothing is cancelled, so what is taken is written.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    began = trio.current_time()
                    await self._write(self._take(count, is_stalled))
                    is_stalled = trio.current_time() - began > STALL and bool(self._waiting)
        finally:
            # Even if nothing waits: a thread that was just left alone gets the time to write its text. An error of
            # the output is not raised: it would hide why the server ends, or is itself the reason.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_PRINTOUT), suppress(OSError):
                await self._write(self._take(len(self._waiting), is_stalled))

    def _take(self, count: int, is_stalled: bool) -> str:
        """The print-out of the first `count` waiting rows, which then wait no longer."""
        taken = [self._waiting.pop(name) for name in list(self._waiting)[:count]]
        changes = sum(number for _, number in taken)
        note = f"{PROMPT}[This output was stopped: {changes} changes are combined below.]\n" if is_stalled else ""
        table = note + self._view.update(*(record for record, _ in taken)) if taken else ""
        return table + self._take_rooms()

    def _take_rooms(self) -> str:
        rooms, self._rooms = self._rooms, []
        lines = [ROOM_WORDS[one.kind].format(name=one.name, room=one.room) for one in rooms]
        if self._rooms_left_out:
            lines.append(f"[{self._rooms_left_out} more changes of groups]")
            self._rooms_left_out = 0
        return "".join(f"{PROMPT}{line}\n" for line in lines)
