"""What the user is told of the messages in the outbox: as events, or as the result of a call.

What becomes of them is decided in outbox.py.
"""

from collections import deque
from collections.abc import Callable

import attrs
import trio

from trio_chat.client.context import ClientContext
from trio_chat.client.events import OutgoingChanged
from trio_chat.client.outgoing_queue import MAX_OUTGOING
from trio_chat.errors import NotWaiting
from trio_chat.tasks import WakeUp


@attrs.frozen
class _News:
    """An event that waits for the event queue. `shown`: see `EventQueue.put`."""

    change: OutgoingChanged
    shown: Callable[[], object] | None


@attrs.define(eq=False)
class OutboxNews:
    """News that wait until the user takes them. `report`: gets those of a program that reads no events.

    What is sent does not wait for them: somebody may read slowly, or never. Of too many the oldest are dropped; a
    failure among them is told by the next program.
    """

    _context: ClientContext
    report: Callable[[OutgoingChanged], object] | None = attrs.field(init=False, default=None)
    _untold: deque[_News] = attrs.field(init=False, factory=lambda: deque(maxlen=MAX_OUTGOING))
    _wake_up: WakeUp = attrs.field(init=False, factory=WakeUp)
    _awaited: dict[int, trio.MemorySendChannel[OutgoingChanged]] = attrs.field(init=False, factory=dict)

    async def of(self, number: int) -> OutgoingChanged:
        """The next news of the message with this number; see `Outbox.news`."""
        self._awaited[number], news = trio.open_memory_channel[OutgoingChanged](1)
        try:
            return await news.receive()
        except trio.EndOfChannel:
            raise NotWaiting(number) from None
        finally:
            self._awaited.pop(number, None)

    def tell(self, change: OutgoingChanged, shown: Callable[[], object] | None) -> None:
        """Tell the user what has become of a message; `shown` is called when they know it."""
        if awaited := self._awaited.pop(change.number, None):
            awaited.send_nowait(change)
        elif self._context.event_queue.takes_events:
            self._untold.append(_News(change, shown))
            self._wake_up.set()
            return
        elif self.report is not None:
            self.report(change)
        if shown:
            shown()

    def cancelled(self, number: int) -> None:
        """The user has withdrawn this message: nothing more is told of it."""
        for news in [news for news in self._untold if news.change.number == number]:
            self._untold.remove(news)
        if awaited := self._awaited.pop(number, None):
            awaited.close()

    async def tell_loop(self) -> None:
        """Queue the news as events, until cancelled."""
        while True:
            while self._untold:
                news = self._untold.popleft()
                await self._context.event_queue.put(news.change, news.shown)
            await self._wake_up.wait()
