"""Messages as they arrive at a client, directly or as letters: each is shown once, whichever paths it took.

A letter is acknowledged when the store has it, a direct message when it waits to be read. Nothing is sent from here
but these answers.
"""

from functools import partial

import trio

from trio_chat.client.events import (
    Event,
    GroupMessageReceived,
    GroupMessagesMissed,
    LetterReceived,
    MessageReceived,
    ReceiptReceived,
)
from trio_chat.client.inbox import Inbox
from trio_chat.protocol.messages import Answer, Chat, Letters
from trio_chat.protocol.records import Letter, LetterKind, fold
from trio_chat.protocol.reliability import Reaction
from trio_chat.storage.interface import ClientStore, LetterKey
from trio_chat.transport.endpoint import Endpoint, Peer

__all__ = ["Mail"]


class Mail:
    """What one person gets. `take_message` and `take_letters` are called by the reading task and never wait."""

    def __init__(self, name: str, endpoint: Endpoint, store: ClientStore, inbox: Inbox) -> None:
        self._name = fold(name)
        self._endpoint = endpoint
        self._store = store
        self._inbox = inbox
        self._on_line_since = float("inf")
        self._first_letter = True
        self._queued: set[LetterKey] = set()
        # One batch may wait while the letters of the one before are being shown: the server sends one at a time.
        self._to_read, self._batches = trio.open_memory_channel[tuple[Peer, Letters]](1)

    def came_on_line(self, at: float) -> None:
        """A registration: what the server took before this time (its clock) is from the time away."""
        self._on_line_since = at
        self._first_letter = True

    def take_message(self, message: Chat) -> Answer | Reaction:
        """A direct message: acknowledged if it waits to be read, or did before."""
        if fold(message.recipient) != self._name:
            return Reaction.SILENCE
        key = (LetterKind.DIRECT, fold(message.sender), message.id)
        if not self._store.has(key):
            if not self._inbox.offer(MessageReceived(message.sender, message.text)):
                return Reaction.SILENCE
            self._store.saw(key)
        return message.ack()

    def take_letters(self, peer: Peer, request: Letters) -> Answer | Reaction:
        """Letters from the server: acknowledged by `read` when they are stored."""
        if fold(request.recipient) != self._name:
            return Reaction.SILENCE
        if self._inbox.full:
            return request.busy()
        try:
            self._to_read.send_nowait((peer, request))
        except trio.WouldBlock:
            return request.busy()
        return Reaction.IN_WORK

    async def read(self) -> None:
        """Store, acknowledge and show letters until cancelled, beginning with those that were stored but not shown."""
        await self._show()
        async for peer, request in self._batches:
            await self._store.keep(request.letters)
            self._endpoint.answer(peer, request, request.ack())
            await self._show()

    async def _show(self) -> None:
        for letter in self._store.unshown():
            if letter.key not in self._queued:
                self._queued.add(letter.key)
                await self._inbox.put(self._event(letter), partial(self._was_read, letter))

    def _was_read(self, letter: Letter) -> None:
        self._queued.discard(letter.key)
        self._store.shown(letter)

    def _event(self, letter: Letter) -> Event:
        match letter.kind:
            case LetterKind.RECEIPT:
                return ReceiptReceived(letter.sender, letter.sent_at)
            case LetterKind.MISSED:
                return GroupMessagesMissed(letter.count)
        is_group = letter.kind is LetterKind.GROUP
        if letter.sent_at > self._on_line_since:
            return (GroupMessageReceived if is_group else MessageReceived)(letter.sender, letter.text)
        first, self._first_letter = self._first_letter, False
        return LetterReceived(letter.sender, letter.text, letter.sent_at, is_group, first)
