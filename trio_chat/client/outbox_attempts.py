"""One attempt to send a message of the outbox: directly, or by the server.

When it is made, and what follows, is in outbox.py. The ways are in direct_sender.py, letter_sender.py and rooms.py.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import takewhile
from typing import TypeVar

import attrs
import trio

from trio_chat import errors
from trio_chat.client.context import ClientContext
from trio_chat.client.direct_sender import DirectSender
from trio_chat.client.events import MessageState
from trio_chat.client.letter_sender import LetterSender
from trio_chat.client.outgoing_queue import AT_ONCE, RESEND_UNKEPT, MessageQueue, QueuedMessage
from trio_chat.client.people import People
from trio_chat.client.registration import Registration
from trio_chat.client.rooms import Rooms
from trio_chat.protocol.messages import DirectMessage
from trio_chat.protocol.records import PublicKeys, Record
from trio_chat.storage.outgoing import Outgoing

_T = TypeVar("_T")


@attrs.define(eq=False)
class Attempts:
    """Sends messages of one person.

    `handed`: those that programs of others have, or are getting, by their ids; with the keys of their links.
    """

    _context: ClientContext
    _registration: Registration
    _direct: DirectSender
    _letters: LetterSender
    _rooms: Rooms
    _people: People
    handed: dict[bytes, tuple[bytes, MessageQueue, QueuedMessage]] = attrs.field(init=False, factory=dict)
    # Two: a server that takes seconds to answer must not hold up what goes to programs of others.
    _to_server: trio.CapacityLimiter = attrs.field(init=False, factory=lambda: trio.CapacityLimiter(AT_ONCE))
    _to_others: trio.CapacityLimiter = attrs.field(init=False, factory=lambda: trio.CapacityLimiter(AT_ONCE))

    # --- what comes first ---

    def is_due(self, one: QueuedMessage) -> bool:
        """Whether a message must be sent now."""
        if one.handed_to is None:
            return True
        # With another row their program is another one, or they are gone: it must come before what is sent there next.
        has_moved = self._context.table.get(one.message.recipient) != one.handed_to
        # The new program may answer before we get its row, and perhaps from another address.
        peer = self._direct.peer(one.handed_to, one.link_key)
        has_restarted = self._context.endpoint.session(peer) != one.session
        return has_moved or has_restarted or trio.current_time() >= one.resend_at

    def _gives_way(self, queue: MessageQueue, one: QueuedMessage) -> bool:
        """Whether an earlier message has become due meanwhile: this one must not come before it. Or it is gone.

        It may have been withdrawn, or be on their disk by now, while it got its turn: too late to cancel that wait.
        """
        return next((other for other in queue.messages if other is one or self.is_due(other)), None) is not one

    def _are_unkept_before(self, queue: MessageQueue, one: QueuedMessage) -> bool:
        """Whether earlier messages are not on the disk of their recipient yet, as far as we know: they are due now."""
        unkept = [*takewhile(lambda other: other is not one, queue.messages)]
        for other in unkept:
            other.handed_to = None
        return bool(unkept)

    # --- sending ---

    async def attempt(self, queue: MessageQueue, one: QueuedMessage) -> tuple[MessageState, float | None] | None:
        """Send a message. None: an earlier one must be sent again before it."""
        message, was_tried, one.was_tried = one.message, one.was_tried, True
        try:
            if message.room:
                await self._by_server(partial(self._post, message), one)
                return MessageState.POSTED, None
            find = partial(self._people.keys, message.recipient)
            record, keys = await (find() if message.recipient in self._context.table else self._by_server(find))
            direct = DirectMessage(message.id, self._context.name, message.recipient, message.text, sender_keeps=True)
            # Who acknowledges, and never says that they have it: the server takes it, unless it is away, too.
            is_silent = self._registration.silent_since is not None
            if one.times < len(RESEND_UNKEPT) or (is_silent and one.handed_to is not None):
                async with self._to_others:
                    if record.online:
                        await self._note_attempt(one)
                    if self._gives_way(queue, one):
                        return None
                    if await self._send_directly(queue, one, direct, record, keys):
                        return MessageState.RECEIVED, None
            # The program that has acknowledged them may be gone. The server would hand over this one before them.
            if self._are_unkept_before(queue, one):
                return None
            send = partial(self._letters.send, direct, keys, message.at, is_copy=was_tried)
            delivery = await self._by_server(send, one)
            return MessageState(delivery.how), delivery.sent_at
        except errors.IdInUse:
            # Sealed twice, a message to a private room looks like another one: the server has it.
            if not (was_tried and message.room):
                raise
            return MessageState.POSTED, None

    async def _send_directly(
        self, queue: MessageQueue, one: QueuedMessage, message: DirectMessage, record: Record, keys: PublicKeys
    ) -> bool:
        peer, endpoint = self._direct.peer(record, keys.link), self._context.endpoint
        # Before it is sent: that it is kept may be said before we look at the answer.
        self.handed[message.id] = (keys.link, queue, one)
        # Behind others: not to a program that has started since it acknowledged them.
        session = None if queue.messages[0] is one else endpoint.session(peer)
        if await self._direct.send(message, record, keys, session=session) is not None:
            return False
        self._letters.received(message.id)
        one.resend_at = trio.current_time() + RESEND_UNKEPT[min(one.times, len(RESEND_UNKEPT) - 1)]
        one.times += 1
        peer = self._direct.peer(record, keys.link)  # they may have been reached at another address
        one.handed_to, one.link_key, one.session = record, keys.link, endpoint.session(peer)
        return True

    async def _post(self, message: Outgoing) -> None:
        await self._rooms.post(message.room, message.text, message.id, message.at, only=message.room_id)

    async def _by_server(self, ask: Callable[[], Awaitable[_T]], one: QueuedMessage | None = None) -> _T:
        """Ask the server. `one`: the message that it gets by that."""
        async with self._to_server:
            # Heartbeats find out when it is back. If each of thousands of queues asked, each would take its windows.
            if self._registration.silent_since is not None:
                raise errors.ServerNotResponding
            if one is not None:
                await self._note_attempt(one)
            return await ask()

    async def _note_attempt(self, one: QueuedMessage) -> None:
        """A message is sent now. After a crash, nobody knows whether it has arrived."""
        # We may have gone offline while it waited for its turn.
        if self._registration.registered is None:
            raise errors.NotRegistered
        if one.message.attempted_at is None:
            one.message = await self._context.store.attempt_outgoing(one.message, self._context.clock())
