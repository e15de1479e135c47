"""What waits to be read by the user: a bounded channel of events, in which table changes fold into one.

What the events mean, and who is told that there was no room, is decided elsewhere.
"""

from collections.abc import Callable

import trio

from trio_chat.client.events import Event, TableChanged

__all__ = ["BACKLOG", "EventQueue"]

BACKLOG = 256
"""Events that may wait; what comes beyond is turned away and stays with its sender or the server."""


def _nothing() -> None: ...


class EventQueue:
    """Iterate over it to get the events; the iteration ends when the chat is closed. So many may wait; 0: none."""

    def __init__(self, capacity: int = BACKLOG) -> None:
        self._capacity = capacity
        self.shed = 0
        """Events that were turned away because the user did not keep up."""
        self._send, self._receive = trio.open_memory_channel[tuple[Event, Callable[[], object]]](capacity)
        self._change_queued = False
        self._change_owed = False

    @property
    def full(self) -> bool:
        """Is there no room for another event?"""
        return self._receive.statistics().current_buffer_used >= self._capacity

    def offer(self, event: Event) -> bool:
        """Add an event if there is room; tell whether there was."""
        try:
            self._send.send_nowait((event, _nothing))
        except trio.WouldBlock:
            self.shed += 1
            return False
        return True

    async def put(self, event: Event, read: Callable[[], object] = _nothing) -> None:
        """Add an event as soon as there is room; `read` is called when the user takes it."""
        await self._send.send((event, read))

    def table_changed(self) -> None:
        """Add TableChanged unless one is waiting; where there is no room now, it follows later."""
        if not self._change_queued:
            self._change_queued = not self.full and self.offer(TableChanged())
            self._change_owed = not self._change_queued

    def close(self) -> None:
        """No more events will come; those that wait can still be read."""
        self._send.close()

    def __aiter__(self) -> "EventQueue":
        return self

    async def __anext__(self) -> Event:
        event, read = await self._receive.__anext__()
        read()
        if isinstance(event, TableChanged):
            self._change_queued = False
        if self._change_owed:
            self.table_changed()
        return event
