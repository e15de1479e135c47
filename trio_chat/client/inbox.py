"""Messages as they arrive at a client, directly or as letters: each is shown once, whichever paths it took.

A letter is acknowledged when the store has it, a direct message when it waits to be read. What is not signed by the
one in whose name it comes is not shown. Nothing is sent from here but these answers.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial

import attrs
import trio

from trio_chat.client.event_queue import EventQueue
from trio_chat.client.events import (
    Event,
    ForgedReceiptReceived,
    GroupMessageReceived,
    GroupMessagesMissed,
    LetterReceived,
    LetterUnreadable,
    MessageNotOpened,
    MessageReceived,
    ReceiptReceived,
)
from trio_chat.client.trust import Trust
from trio_chat.crypto.identities import Identity
from trio_chat.crypto.letters import OpenedText, Unreadable, open_letter_untrusted, open_post_untrusted
from trio_chat.crypto.receipts import make_receipt, sign_unreadable, verify_receipt, verify_unreadable
from trio_chat.errors import KeyChanged
from trio_chat.link.session import Peer
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.messages import Answer, DirectMessage, Letters
from trio_chat.protocol.records import RETENTION, Letter, LetterKind, Record, fold
from trio_chat.storage.interface import ClientStore, Entry, LetterKey, OpenedLetter
from trio_chat.transport.endpoint import Endpoint

__all__ = ["Inbox"]

Batches = tuple[trio.MemorySendChannel[tuple[Peer, Letters]], trio.MemoryReceiveChannel[tuple[Peer, Letters]]]


@attrs.define(eq=False)
class Inbox:
    """What one person gets. `take_message` and `take_letters` are called by the reading task and never wait."""

    name: str
    identity: Identity
    trust: Trust
    table: Mapping[str, Record]
    endpoint: Endpoint
    store: ClientStore
    inbox: EventQueue
    clock: Callable[[], float]
    _on_line_since: float = attrs.field(init=False, default=float("inf"))
    _first_letter: bool = attrs.field(init=False, default=True)
    _queued: set[LetterKey] = attrs.field(init=False, factory=set)
    # One batch may wait while the letters of the one before are being shown: the server sends one at a time.
    _batches: Batches = attrs.field(init=False, factory=lambda: trio.open_memory_channel[tuple[Peer, Letters]](1))

    def came_on_line(self, at: float) -> None:
        """A registration: what the server took before this time (its clock) is from the time away."""
        self._on_line_since = at
        self._first_letter = True

    # --- what arrives ---

    def take_message(self, peer: Peer, message: DirectMessage) -> Answer | Reaction:
        """A direct message: acknowledged if it waits to be read, or did before."""
        if fold(message.recipient) != fold(self.name) or not self._is_from(peer, message.sender):
            return Reaction.SILENCE
        key = (LetterKind.DIRECT, fold(message.sender), message.id)
        if not self.store.has(key):
            if not self.inbox.offer(MessageReceived(message.sender, message.text)):
                return Reaction.SILENCE
            self.store.saw(key)
            self.store.note(Entry(self.clock(), message.sender, message.text))
        receipt = make_receipt(self.identity, id=message.id, sender=message.sender, text=message.text)
        return message.receipt(receipt)

    def _is_from(self, peer: Peer, sender: str) -> bool:
        record = self.table.get(sender)
        try:
            keys = self.trust.keys(record) if record else None
        except KeyChanged:
            return False
        return keys is not None and keys.link == peer.key

    def take_letters(self, peer: Peer, request: Letters) -> Answer | Reaction:
        """Letters from the server: acknowledged by `read` when they are stored."""
        if fold(request.recipient) != fold(self.name):
            return Reaction.SILENCE
        # The row of someone who has just come may be on its way yet.
        strangers = [letter for letter in request.letters if letter.sender not in self.table]
        if self.inbox.full or strangers:
            return request.busy()
        try:
            self._batches[0].send_nowait((peer, request))
        except trio.WouldBlock:
            return request.busy()
        return Reaction.IN_WORK

    async def read(self) -> None:
        """Store, acknowledge and show letters until cancelled, beginning with those that were stored but not shown."""
        await self._show()
        async for peer, request in self._batches[1]:
            opened = [self._open_untrusted(letter) for letter in request.letters]
            receipts = tuple(map(self._receipt, request.letters, opened))
            unreadable = sum(1 << place for place, one in enumerate(opened) if _is_unread(one))
            await self.store.keep(opened)
            self.endpoint.answer(peer, request, request.taken(receipts, unreadable))
            await self._show()

    # --- letters ---

    def _open_untrusted(self, letter: Letter) -> OpenedLetter:
        """What a letter says; text None if it does not say it for sure.

        Such a one does not get the id that it claims, or else what has that id would be taken for a copy of it.
        """
        text = ""
        try:
            match letter.kind:
                case LetterKind.DIRECT | LetterKind.GROUP:
                    text = self._read_untrusted(letter)
                case LetterKind.RECEIPT | LetterKind.UNREADABLE:
                    self._check_untrusted(letter)
        except Unreadable:
            other_id = hashlib.sha256(letter.id + letter.body).digest()[: len(letter.id)]
            return OpenedLetter(letter.kind, other_id, letter.sender, letter.sent_at, None)
        return OpenedLetter(letter.kind, letter.id, letter.sender, letter.sent_at, text, letter.count)

    def _read_untrusted(self, letter: Letter) -> str:
        opened = self._opened_untrusted(letter)
        if self.clock() - opened.sent_at > RETENTION:
            raise Unreadable("it may have been shown before, but that would be forgotten")
        return opened.text

    def _opened_untrusted(self, letter: Letter) -> OpenedText:
        key, id_, sender = self._key(letter), letter.id, letter.sender
        if letter.kind is LetterKind.GROUP:
            return open_post_untrusted(letter.body, key, id=id_, sender=sender)
        return open_letter_untrusted(letter.body, self.identity, key, id=id_, sender=sender, recipient=self.name)

    def _check_untrusted(self, letter: Letter) -> None:
        key, body, id_ = self._key(letter), letter.body, letter.id
        if letter.kind is LetterKind.RECEIPT:
            is_genuine = verify_receipt(body, key, id=id_, sender=self.name)
        else:
            is_genuine = verify_unreadable(key, body, id=id_, sender=self.name)
        if not is_genuine:
            raise Unreadable("not signed by the one who is said to have it")

    def _key(self, letter: Letter) -> bytes:
        key = self.trust.signing_key(letter.sender)
        if key is None:
            raise Unreadable("nobody has this name")
        return key

    def _receipt(self, letter: Letter, opened: OpenedLetter) -> bytes:
        if letter.kind is not LetterKind.DIRECT:
            return b""
        if opened.text is None:
            return sign_unreadable(self.identity, id=letter.id, sender=letter.sender)
        return make_receipt(self.identity, id=letter.id, sender=letter.sender, text=opened.text)

    # --- showing ---

    async def _show(self) -> None:
        for letter in self.store.unshown():
            if letter.key not in self._queued:
                self._queued.add(letter.key)
                await self.inbox.put(self._event(letter), partial(self._was_read, letter))

    def _was_read(self, letter: OpenedLetter) -> None:
        self._queued.discard(letter.key)
        self.store.shown(letter)

    def _event(self, letter: OpenedLetter) -> Event:
        sender, text = letter.sender, letter.text
        match letter.kind:
            case LetterKind.MISSED:
                return GroupMessagesMissed(letter.count)
            case LetterKind.RECEIPT | LetterKind.UNREADABLE if text is None:
                return ForgedReceiptReceived(sender)
            case LetterKind.RECEIPT:
                return ReceiptReceived(sender, letter.sent_at)
            case LetterKind.UNREADABLE:
                return MessageNotOpened(sender, letter.sent_at)
        if text is None:
            return LetterUnreadable(sender)
        is_group = letter.kind is LetterKind.GROUP
        if letter.sent_at > self._on_line_since:
            return (GroupMessageReceived if is_group else MessageReceived)(sender, text)
        first, self._first_letter = self._first_letter, False
        return LetterReceived(sender, text, letter.sent_at, is_group, first)


def _is_unread(letter: OpenedLetter) -> bool:
    return letter.kind is LetterKind.DIRECT and letter.text is None
