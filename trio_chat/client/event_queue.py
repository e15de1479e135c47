"""The events that wait for the user: a bounded queue in which changes of the table fold into one.

What the events mean, and what is done when there is no room, is decided elsewhere.
"""

from collections.abc import Callable

import trio

from trio_chat.client.events import Event, TableChanged

BACKLOG = 256
"""How many events may wait. Further messages are refused: they stay with their senders or the server."""

TAKEN_IN_A_TURN = 32
"""How many events that wait are taken one after the other before other tasks may run."""

_Queued = tuple[Event, Callable[[], object] | None]


class EventQueue:
    """At most `capacity` events for one reader; 0 takes none. The iteration ends when the queue is closed and empty.

    The event that was taken last is in hand until the reader asks for the next one or calls `mark_shown`. A reader
    that was cancelled may have been about to show it: so the next `async for` begins with the event in hand.
    """

    def __init__(self, capacity: int = BACKLOG) -> None:
        self._capacity = capacity
        self._send, self._receive = trio.open_memory_channel[_Queued](capacity)
        self._waiting = 0
        self._taken_at_once = 0
        self._in_hand: _Queued | None = None
        self._to_repeat: _Queued | None = None
        self._change_queued = False
        self._change_owed = False

    @property
    def takes_events(self) -> bool:
        """Whether there is ever room for an event."""
        return self._capacity > 0

    @property
    def room(self) -> int:
        """How many more events there is room for."""
        return max(0, self._capacity - self._waiting)

    def offer(self, event: Event, shown: Callable[[], object] | None = None) -> bool:
        """Add an event if there is room; return whether there was. `shown` is called when it has been shown."""
        if not self.room:  # with a capacity of 0 `send_nowait` would hand the event to a reader that waits
            return False
        try:
            self._send.send_nowait((event, shown))
        except trio.ClosedResourceError:  # the chat has ended, and the reader is taking what is left
            return False
        self._waiting += 1
        return True

    async def put(self, event: Event, shown: Callable[[], object] | None = None) -> None:
        """Add an event as soon as there is room. `shown` is called when it has been shown."""
        # Counted before it waits: the reader may take it before this task runs again.
        self._waiting += 1
        try:
            await self._send.send((event, shown))
        except BaseException:
            self._waiting -= 1
            raise

    def table_changed(self) -> None:
        """Add TableChanged unless one is waiting. If there is no room, it is added when the reader has made some."""
        if not self._change_queued:
            self._change_queued = self.offer(TableChanged())
            self._change_owed = not self._change_queued

    def mark_shown(self) -> None:
        """The event that was taken last has been shown. Does nothing if it is marked already."""
        if self._in_hand is not None:
            _, shown = self._in_hand
            self._in_hand = self._to_repeat = None
            if shown is not None:
                shown()

    def close(self) -> None:
        """No more events will come; those that wait can still be read."""
        self._send.close()

    def __aiter__(self) -> "EventQueue":
        # A new loop: the one before has ended without asking for more.
        self._to_repeat = self._in_hand
        return self

    async def __anext__(self) -> Event:
        queued = self._to_repeat
        if queued is None:
            # Before waiting, so that the last event counts too when the iteration ends here.
            self.mark_shown()
            # A cancellation cannot fall between taking an event out of the channel and holding it.
            queued = self._in_hand = await self._take()
            # Before the reader looks at the table: a change during that look needs an event of its own.
            if isinstance(queued[0], TableChanged):
                self._change_queued = False
            if self._change_owed:
                self.table_changed()
        else:
            await trio.lowlevel.checkpoint()
            self._to_repeat = None  # after the checkpoint: if that is cancelled, the event must come again
        return queued[0]

    async def _take(self) -> _Queued:
        # Many messages come in one datagram. A reader that gets one of them in each turn of the scheduler would fall
        # behind, and what there is no room for goes by the server, or is sent again.
        if self._waiting and self._taken_at_once < TAKEN_IN_A_TURN:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._taken_at_once += 1
            queued = self._receive.receive_nowait()
        else:
            self._taken_at_once = 0
            queued = await self._receive.__anext__()
        self._waiting -= 1
        return queued
