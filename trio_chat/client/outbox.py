"""The outbox: messages that the program has accepted, and keeps until they are sent, also over a restart.

Each recipient and each room has a queue of its own, in order, which no other queue waits for. How a message is sent is
in outbox_attempts.py; here is when, what follows a failure, and what the user is told.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import attrs
import trio

from trio_chat import errors
from trio_chat.client.context import ClientContext
from trio_chat.client.events import HistoryEntry, MessageState, OutgoingChanged
from trio_chat.client.outbox_attempts import Attempts
from trio_chat.client.outbox_news import OutboxNews
from trio_chat.client.outgoing_queue import (
    PAUSES,
    QUIET_PAUSE,
    MessageQueue,
    QueuedMessage,
    QueueKey,
    check_room,
    is_too_old,
    new_message,
    queue_of,
)
from trio_chat.client.registration import Registration
from trio_chat.link.session import Peer
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
    _attempts: Attempts
    _is_loaded: bool = attrs.field(init=False, default=False)
    _queues: dict[QueueKey, MessageQueue] = attrs.field(init=False, factory=dict)
    _to_start: list[QueueKey] = attrs.field(init=False, factory=list)
    # Queues that have got another message while their first one waits.
    _to_tell: list[MessageQueue] = attrs.field(init=False, factory=list)
    _wake_up: WakeUp = attrs.field(init=False, factory=WakeUp)
    _progress: Change = attrs.field(init=False, factory=Change)
    _news: OutboxNews = attrs.field(init=False)
    _new: int = attrs.field(init=False, default=0)
    # How many messages are being written to the disk, and their bytes.
    _being_put: tuple[int, int] = attrs.field(init=False, default=(0, 0))

    @_news.default
    def _new_news(self) -> OutboxNews:
        return OutboxNews(self._context)

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
        count, size = self._being_put
        check_room(store, text, count, size)
        self.resume()
        message = new_message(recipient, room, text, self._context.clock())
        if room and (private := self._context.epochs.named(room)):
            # Whatever room has this name when it is sent.
            message = attrs.evolve(message, room_id=private.room)
        if queue_of(message) not in self._queues and self._can_be_tried(recipient):
            # If nothing is before it, it is tried in a moment: one write to the disk says both.
            message = attrs.evolve(message, attempted_at=message.at)
        stored: list[Outgoing] = []
        is_cancelled = False

        def on_stored(message: Outgoing) -> None:
            if is_cancelled:
                self._enqueue(QueuedMessage(message))
            else:
                stored.append(message)

        self._being_put = (count + 1, size + len(text.encode()))
        try:
            return await store.put_outgoing(message, on_stored)
        finally:
            count, size = self._being_put
            self._being_put = (count - 1, size - len(text.encode()))
            # Not in `on_stored`, if this returns: the caller would hear too late of what becomes of it. But if this is
            # cancelled, and it is on the disk nevertheless, only the next program would send it. A shield against the
            # cancellation would be for ever if the store has ended (seed 80000).
            is_cancelled = True
            for message in stored:
                self._enqueue(QueuedMessage(message))

    def _can_be_tried(self, recipient: str) -> bool:
        if self._registration.registered is None or self._registration.silent_since is not None:
            return False
        record = self._context.table.get(recipient)
        try:
            return record is None or self._context.pins.keys(record) is not None
        except errors.ChatError:  # the key has changed: nothing is sent before it is trusted
            return False

    def waiting(self) -> list[Outgoing]:
        """The messages that wait, in the order in which they were put."""
        return self._context.store.outgoing()

    async def cancel(self, number: int) -> Outgoing:
        """Withdraw the message with this number; return it. If it was attempted, it may have arrived nevertheless.

        Raises NotWaiting.
        """
        # Not what was told to be received: if it is lost with their program after all, it is sent again (seed 90084).
        waiting = [one for one in self.waiting() if not one.is_received]
        message = next((one for one in waiting if one.number == number), None)
        if message is None:
            raise errors.NotWaiting(number)
        queue = self._queues.get(queue_of(message), MessageQueue())
        for one in [one for one in queue.messages if one.message.number == number]:
            self._dequeue(queue, one)
            if one.attempt is not None:
                one.attempt.cancel()
        self._news.cancelled(number)
        await self._context.store.cancel_outgoing(message)
        return message

    async def news(self, message: Outgoing) -> OutgoingChanged:
        """Wait for what becomes of this message first; it does not come as an event, then. Call this right after `put`.

        So a program that reads no events (`backlog=0`) knows whether it was sent, has failed, or has to wait. Raises
        NotWaiting if it is cancelled meanwhile.
        """
        return await self._news.of(message.number)

    async def settled(self) -> None:
        """Wait until each message that was put has been sent, or has to wait for something."""
        while self._new:
            await self._progress.wait()

    async def send_waiting(self, report: Callable[[OutgoingChanged], object]) -> None:
        """Go on with what the store has, and return when each message is sent, has failed, or has to wait.

        For a program that reads no events (`backlog=0`): `report` is called with what becomes of each one.
        """
        self._news.report = report
        self.resume()
        await self.settled()

    def resume(self, *, again: bool = False) -> None:
        """Go on with what the store has of an earlier program; `put` calls it, too.

        Does nothing the second time, unless `again` something was put into the store by others than this outbox.
        """
        if again or not self._is_loaded:
            self._is_loaded = True
            known = {one.message.number for queue in self._queues.values() for one in queue.messages}
            for message in [one for one in self.waiting() if one.number not in known]:
                was_tried = message.attempted_at is not None
                # That it has to wait was told by the earlier program; but `report` wants to know that now.
                was_told = not message.is_received and self._news.report is None
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
        queue.add(one)
        queue.wake_up.set()
        self._new += 1
        if queue.error is not None:
            self._to_tell.append(queue)
            self._wake_up.set()

    def _dequeue(self, queue: MessageQueue, one: QueuedMessage) -> None:
        queue.messages.remove(one)
        queue.wake_up.set()
        self._attempts.handed.pop(one.message.id, None)
        self._is_settled(one)

    def _is_settled(self, one: QueuedMessage) -> None:
        self._new -= one.is_new
        one.is_new = False
        self._progress.set()

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._news.tell_loop)
            while True:
                starting, self._to_start = self._to_start, []
                for key in starting:
                    nursery.start_soon(self._send_queue, key)
                await self._wake_up.wait()
                # Who has put them may call `news` in this moment.
                await trio.lowlevel.checkpoint()
                telling, self._to_tell = self._to_tell, []
                for queue in telling:
                    if queue.error is not None:
                        self._must_wait(queue, queue.error)

    async def _send_queue(self, key: QueueKey) -> None:
        queue = self._queues[key]
        while queue.messages:
            one = next((one for one in queue.messages if self._attempts.is_due(one)), None)
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

    # --- sending ---

    async def _send(self, queue: MessageQueue, one: QueuedMessage) -> bool:
        """Send a message, as often as that is needed, and say what has become of it. False: it stays in its queue."""
        while True:
            # Before anything is looked at: what changes from now on is not missed.
            change = self._registration.changed.next
            if self._registration.registered is None:
                self._must_wait(queue, errors.NotRegistered())
                await change.wait()
                continue
            if one.times:
                self._is_settled(one)
            if is_too_old(one.message, self._context.clock()):
                self._has_failed(one, errors.TriedTooLong())
                return True
            try:
                sent = await self._attempts.attempt(queue, one)
            except errors.StoreFailed:
                raise
            except tuple(PAUSES) as error:
                pause = max(PAUSES[type(error)], getattr(error, "after", 0.0))
                # Who writes much is told to wait a second again and again: that is no news.
                if pause > QUIET_PAUSE:
                    self._must_wait(queue, error)
                with trio.move_on_after(pause):
                    await change.wait()
            except errors.ChatError as error:
                self._has_failed(one, error)
                return True
            else:
                if sent is None:
                    return False
                self._was_sent(one, *sent)
                return sent[0] is not MessageState.RECEIVED or one.is_kept

    def on_kept(self, peer: Peer, ids: Sequence[bytes]) -> None:
        """A peer has these messages on its disk. Called by the reading task."""
        for id_ in ids:
            match self._attempts.handed.get(id_):
                case (key, queue, one) if key == peer.key:
                    pass
                case _:
                    continue
            one.is_kept = True
            # Not if the acknowledgement has come in the same moment, and is looked at next.
            if one.message.is_received and one in queue.messages:
                self._context.store.outgoing_done(one.message)
                self._dequeue(queue, one)
                if one.attempt is not None:
                    one.attempt.cancel()

    # --- what the user is told ---

    def _was_sent(self, one: QueuedMessage, state: MessageState, sent_at: float | None) -> None:
        store, message, is_post = self._context.store, one.message, bool(one.message.room)
        if not message.is_received:
            room = "" if fold(message.room) == EVERYONE_NAME else message.room
            # With the next line: after a crash it is in the history, or waits, and never neither.
            store.note(HistoryEntry(message.at, message.recipient, message.text, sent=True, group=is_post, room=room))
            self._tell(one, state, sent_at=sent_at)
        if state is MessageState.RECEIVED and not one.is_kept:
            one.message = store.outgoing_received(message)
        else:
            store.outgoing_done(message)

    def _has_failed(self, one: QueuedMessage, error: errors.ChatError) -> None:
        if one.message.is_received:
            self._context.store.outgoing_done(one.message)  # what was said of it is right
        else:
            self._tell(one, MessageState.FAILED, error)

    def _must_wait(self, queue: MessageQueue, error: errors.ChatError) -> None:
        """The first message waits, and those behind it: tell the user, of each of them once."""
        queue.error = error
        for one in queue.messages:
            if one.is_new:
                self._is_settled(one)
                if not one.was_told and not one.message.is_received:
                    self._tell(one, MessageState.WAITING, error)
                    one.was_told = True

    def _tell(
        self,
        one: QueuedMessage,
        state: MessageState,
        error: errors.ChatError | None = None,
        sent_at: float | None = None,
    ) -> None:
        message = one.message
        change = OutgoingChanged(
            message.number, message.id, message.recipient, message.room, message.at, state, sent_at, error, one.was_told
        )
        # A failure is kept until the user has seen it: if the program ends before, it fails and is told again.
        is_failure = state is MessageState.FAILED
        self._news.tell(change, partial(self._context.store.outgoing_done, message) if is_failure else None)
