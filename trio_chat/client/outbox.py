"""The outbox: messages that the program has accepted, and keeps until they are sent, also over a restart.

Each recipient and each room has a queue of its own, in order, which no other queue waits for. How a message is sent is
in direct_sender.py, letter_sender.py and rooms.py; here is when, what follows a failure, and what the user is told.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import takewhile
from typing import TypeVar

import attrs
import trio

from trio_chat import errors
from trio_chat.client.context import ClientContext
from trio_chat.client.direct_sender import DirectSender
from trio_chat.client.events import HistoryEntry, MessageState, OutgoingChanged
from trio_chat.client.letter_sender import LetterSender
from trio_chat.client.outgoing_queue import (
    AT_ONCE,
    PAUSES,
    QUIET_PAUSE,
    RESEND_UNKEPT,
    RETRIED_FOR,
    MessageQueue,
    QueuedMessage,
    QueueKey,
    keep_message,
    queue_of,
)
from trio_chat.client.registration import Registration
from trio_chat.client.rooms import Rooms
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import DirectMessage
from trio_chat.protocol.records import EVERYONE_NAME, check_name, fold
from trio_chat.storage.outgoing import Outgoing
from trio_chat.tasks import Change, WakeUp

_T = TypeVar("_T")


@attrs.define(eq=False)
class Outbox:
    """The messages of one person that wait to be sent; see `Chat.outbox`.

    A message to somebody leaves it when the server has it, or when their program has it on its disk.
    """

    _context: ClientContext
    _registration: Registration
    _direct: DirectSender
    _letters: LetterSender
    _rooms: Rooms
    _is_loaded: bool = attrs.field(init=False, default=False)
    _queues: dict[QueueKey, MessageQueue] = attrs.field(init=False, factory=dict)
    _to_start: list[QueueKey] = attrs.field(init=False, factory=list)
    _wake_up: WakeUp = attrs.field(init=False, factory=WakeUp)
    _progress: Change = attrs.field(init=False, factory=Change)
    # Queues that have another message, while their first one waits.
    _to_tell: list[MessageQueue] = attrs.field(init=False, factory=list)
    # Messages that programs of others have, or are getting, by their ids; with the keys of their links.
    _handed: dict[bytes, tuple[bytes, MessageQueue, QueuedMessage]] = attrs.field(init=False, factory=dict)
    # For a program that reads no events.
    _report: Callable[[OutgoingChanged], object] | None = attrs.field(init=False, default=None)
    _awaited: dict[int, trio.MemorySendChannel[OutgoingChanged]] = attrs.field(init=False, factory=dict)
    _new: int = attrs.field(init=False, default=0)
    # Two: a server that takes seconds to answer must not hold up what goes to programs of others.
    _to_server: trio.CapacityLimiter = attrs.field(init=False, factory=lambda: trio.CapacityLimiter(AT_ONCE))
    _to_others: trio.CapacityLimiter = attrs.field(init=False, factory=lambda: trio.CapacityLimiter(AT_ONCE))

    # --- what the user does ---

    async def put(self, recipient: str, text: str) -> Outgoing:
        """Keep a message to one person until it is sent. When this returns it is on the disk.

        What becomes of it comes as events, `OutgoingChanged`. Raises InvalidName, InvalidText, InvalidRecipient,
        OutboxFull.
        """
        check_name(recipient)
        if fold(recipient) == fold(self._context.name):
            raise errors.InvalidRecipient
        return await self._put(recipient, "", text)

    async def put_in_room(self, room: str, text: str) -> Outgoing:
        """Keep a message to a room, or to `everyone`, until it is sent. Raises InvalidName, InvalidText, OutboxFull."""
        check_name(room)
        return await self._put("", room, text)

    async def _put(self, recipient: str, room: str, text: str) -> Outgoing:
        store = self._context.store
        self.resume()
        now = self._context.clock()
        # If nothing is before it, it is tried in a moment: one write to the disk says both.
        is_first = (fold(recipient), fold(room)) not in self._queues and self._registration.registered is not None
        stored: list[Outgoing] = []
        is_cancelled = False

        def on_stored(message: Outgoing) -> None:
            if is_cancelled:
                self._enqueue(QueuedMessage(message))
            else:
                stored.append(message)

        attempted_at = now if is_first else None
        try:
            return await keep_message(store, recipient, room, text, now, attempted_at, on_stored)
        finally:
            # Not in `on_stored`, if this returns: the caller would hear too late of what becomes of it. But if this is
            # cancelled, and it is on the disk nevertheless, only the next program would send it. A shield against the
            # cancellation would be for ever if the store has ended (seed 80000).
            is_cancelled = True
            for message in stored:
                self._enqueue(QueuedMessage(message))

    def waiting(self) -> list[Outgoing]:
        """The messages that wait, in the order in which they were put."""
        return self._context.store.outgoing()

    async def cancel(self, number: int) -> Outgoing:
        """Withdraw the message with this number; return it. If it was attempted, it may have arrived nevertheless.

        Raises NotWaiting.
        """
        message = next((one for one in self.waiting() if one.number == number), None)
        if message is None:
            raise errors.NotWaiting(number)
        queue = self._queues.get(queue_of(message), MessageQueue())
        for one in [one for one in queue.messages if one.message.number == number]:
            self._dequeue(queue, one)
            if one.attempt is not None:
                one.attempt.cancel()
        await self._context.store.cancel_outgoing(message)
        return message

    async def news(self, message: Outgoing) -> OutgoingChanged:
        """Wait for what becomes of this message first; it does not come as an event, then. Call this right after `put`.

        So a program that reads no events (`backlog=0`) knows whether it was sent, has failed, or has to wait.
        """
        self._awaited[message.number], news = trio.open_memory_channel[OutgoingChanged](1)
        try:
            return await news.receive()
        finally:
            self._awaited.pop(message.number, None)

    async def settled(self) -> None:
        """Wait until each message that was put has been sent, or has to wait for something."""
        while self._new:
            await self._progress.wait()

    async def send_waiting(self, report: Callable[[OutgoingChanged], object]) -> None:
        """Go on with what the store has, and return when each message is sent, has failed, or has to wait.

        For a program that reads no events (`backlog=0`): `report` is called with what becomes of each one.
        """
        self._report = report
        self.resume()
        await self.settled()

    def resume(self) -> None:
        """Go on with what the store has of an earlier program. Does nothing the second time; `put` calls it, too."""
        if not self._is_loaded:
            self._is_loaded = True
            for message in self.waiting():
                was_tried = message.attempted_at is not None
                # That it has to wait was told by the earlier program; but `report` wants to know that now.
                was_told = not message.is_received and self._report is None
                self._enqueue(QueuedMessage(message, was_told=was_told, was_tried=was_tried))

    def try_again(self) -> None:
        """The reason for which messages wait may be gone: try them again."""
        self._registration.changed.set()

    # --- queues ---

    def _enqueue(self, one: QueuedMessage) -> None:
        key = queue_of(one.message)
        if key not in self._queues:
            self._queues[key] = MessageQueue()
            self._to_start.append(key)
            self._wake_up.set()
        queue = self._queues[key]
        queue.messages.append(one)
        queue.wake_up.set()
        self._new += 1
        if queue.error is not None:
            self._to_tell.append(queue)
            self._wake_up.set()

    def _dequeue(self, queue: MessageQueue, one: QueuedMessage) -> None:
        queue.messages.remove(one)
        queue.wake_up.set()
        self._handed.pop(one.message.id, None)
        self._is_settled(one)

    def _is_settled(self, one: QueuedMessage) -> None:
        self._new -= one.is_new
        one.is_new = False
        self._progress.set()

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                starting, self._to_start = self._to_start, []
                for key in starting:
                    nursery.start_soon(self._send_queue, key)
                telling, self._to_tell = self._to_tell, []
                for queue in telling:
                    if queue.error is not None:
                        nursery.start_soon(self._must_wait, queue, queue.error)
                await self._wake_up.wait()

    async def _send_queue(self, key: QueueKey) -> None:
        queue = self._queues[key]
        while queue.messages:
            one = next((one for one in queue.messages if self._is_due(one)), None)
            if one is None:
                with trio.move_on_at(min(one.resend_at for one in queue.messages)):
                    await queue.wake_up.wait()
                continue
            with trio.CancelScope() as one.attempt:
                is_done = await self._send(queue, one)
            one.attempt = queue.error = None
            # Unless it was cancelled, or its recipient said a moment ago that they have it on their disk.
            if one in queue.messages and is_done:
                self._dequeue(queue, one)
        del self._queues[key]

    def _is_due(self, one: QueuedMessage) -> bool:
        """Whether a message must be sent now."""
        if one.handed_to is None:
            return True
        # With another row their program is another one, or they are gone: it must come before what is sent there next.
        has_moved = self._context.table.get(one.message.recipient) != one.handed_to
        # The new program may answer before we get its row.
        has_restarted = one.peer is not None and self._context.endpoint.session(one.peer) != one.session
        return has_moved or has_restarted or trio.current_time() >= one.resend_at

    def _gives_way(self, queue: MessageQueue, one: QueuedMessage) -> bool:
        """Whether an earlier message has become due meanwhile: this one must not come before it."""
        return next((other for other in queue.messages if other is one or self._is_due(other)), one) is not one

    def _are_unkept_before(self, queue: MessageQueue, one: QueuedMessage) -> bool:
        """Whether earlier messages are not on the disk of their recipient yet, as far as we know: they are due now."""
        unkept = [*takewhile(lambda other: other is not one, queue.messages)]
        for other in unkept:
            other.handed_to = None
        return bool(unkept)

    # --- sending ---

    async def _send(self, queue: MessageQueue, one: QueuedMessage) -> bool:
        """Send a message, as often as that is needed, and say what has become of it. False: it stays in its queue."""
        context = self._context
        while True:
            while self._registration.registered is None:
                await self._must_wait(queue, errors.NotRegistered())
                await self._registration.changed.wait()
            message = one.message
            if one.times:
                self._is_settled(one)
            if message.attempted_at is None:
                # Before it is sent: after a crash in between, nobody knows whether it has arrived.
                message = one.message = await context.store.attempt_outgoing(message, context.clock())
            elif context.clock() - message.attempted_at > RETRIED_FOR:
                await self._tell(one, MessageState.FAILED, errors.TriedTooLong())
                return True
            try:
                sent = await self._attempt(queue, one)
            except errors.StoreFailed:
                raise
            except tuple(PAUSES) as error:
                pause = max(PAUSES[type(error)], getattr(error, "after", 0.0))
                # Who writes much is told to wait a second again and again: that is no news.
                if pause > QUIET_PAUSE:
                    await self._must_wait(queue, error)
                with trio.move_on_after(pause):
                    await self._registration.changed.wait()
            except errors.ChatError as error:
                await self._tell(one, MessageState.FAILED, error)
                return True
            else:
                if sent is None:
                    return False
                await self._was_sent(one, *sent)
                return sent[0] is not MessageState.RECEIVED or one.is_kept

    async def _attempt(self, queue: MessageQueue, one: QueuedMessage) -> tuple[MessageState, float | None] | None:
        """Send a message. None: an earlier one must be sent again before it."""
        message, was_tried, one.was_tried = one.message, one.was_tried, True
        try:
            if message.room:
                await self._by_server(partial(self._rooms.post, message.room, message.text, message.id, message.at))
                return MessageState.POSTED, None
            find = partial(self._direct.find, message.recipient)
            record, keys = await (find() if message.recipient in self._context.table else self._by_server(find))
            direct = DirectMessage(message.id, self._context.name, message.recipient, message.text, sender_keeps=True)
            if one.times < len(RESEND_UNKEPT):
                # Before it is sent: that it is kept may be said before we look at the answer.
                self._handed[message.id] = (keys.link, queue, one)
                peer, endpoint = Peer(record.address, keys.link), self._context.endpoint
                async with self._to_others:
                    if self._gives_way(queue, one):
                        return None
                    # Behind others: not to a program that has started since it acknowledged them.
                    session = None if queue.messages[0] is one else endpoint.session(peer)
                    fallback = await self._direct.send(direct, record, keys, session=session)
                if fallback is None:
                    one.resend_at = trio.current_time() + RESEND_UNKEPT[one.times]
                    one.times += 1
                    one.handed_to, one.peer, one.session = record, peer, endpoint.session(peer)
                    return MessageState.RECEIVED, None
            # The program that has acknowledged them may be gone. The server would hand over this one before them.
            if self._are_unkept_before(queue, one):
                return None
            delivery = await self._by_server(partial(self._letters.send, direct, keys, message.at, is_copy=was_tried))
            return MessageState(delivery.how), delivery.sent_at
        except errors.IdInUse:
            # Sealed twice, a message to a private room looks like another one: the server has it.
            if not (was_tried and message.room):
                raise
            return MessageState.POSTED, None

    async def _by_server(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        async with self._to_server:
            # Heartbeats find out when it is back. If each of thousands of queues asked, each would take its windows.
            if self._registration.silent_since is not None:
                raise errors.ServerNotResponding
            return await ask()

    def on_kept(self, peer: Peer, ids: Sequence[bytes]) -> None:
        """A peer has these messages on its disk. Called by the reading task."""
        for id_ in ids:
            match self._handed.get(id_):
                case (key, queue, one) if key == peer.key:
                    pass
                case _:
                    continue
            one.is_kept = True
            if one.handed_to is not None and one.attempt is None and one in queue.messages:
                self._context.store.outgoing_done(one.message)
                self._dequeue(queue, one)

    # --- what the user is told ---

    async def _was_sent(self, one: QueuedMessage, state: MessageState, sent_at: float | None) -> None:
        store, message, is_post = self._context.store, one.message, bool(one.message.room)
        was_received, is_received = message.is_received, state is MessageState.RECEIVED and not one.is_kept
        if not was_received:
            room = "" if message.room == EVERYONE_NAME else message.room
            # With the next line: after a crash it is in the history, or waits, and never neither.
            store.note(HistoryEntry(message.at, message.recipient, message.text, sent=True, group=is_post, room=room))
        if is_received:
            one.message = store.outgoing_received(message)
        else:
            store.outgoing_done(message)
        if not was_received:
            await self._tell(one, state, sent_at=sent_at)
        # That it is kept may have been said while the user was told: `on_kept` leaves it to us, then.
        if is_received and one.is_kept:
            store.outgoing_done(message)

    async def _must_wait(self, queue: MessageQueue, error: errors.ChatError) -> None:
        """The first message waits, and those behind it: tell the user, of each of them once."""
        queue.error = error
        for one in [one for one in queue.messages if one.is_new]:
            self._is_settled(one)
            if not one.was_told and not one.message.is_received:
                one.was_told = True
                await self._tell(one, MessageState.WAITING, error)

    async def _tell(
        self,
        one: QueuedMessage,
        state: MessageState,
        error: errors.ChatError | None = None,
        sent_at: float | None = None,
    ) -> None:
        message, queue = one.message, self._context.event_queue
        change = OutgoingChanged(
            message.number, message.id, message.recipient, message.room, message.at, state, sent_at, error, one.was_told
        )
        # A failure is kept until the user has seen it: if the program ends before, it fails and is told again.
        shown = partial(self._context.store.outgoing_done, message) if state is MessageState.FAILED else None
        if awaited := self._awaited.pop(message.number, None):
            awaited.send_nowait(change)
        elif queue.takes_events:
            await queue.put(change, shown)
            return
        elif self._report is not None:
            self._report(change)
        if shown:
            shown()
