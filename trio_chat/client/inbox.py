"""Messages as they arrive at a client, directly or as letters: each is queued for the user once, however it arrived.

A direct message is acknowledged when it is queued, a letter when the store has it. A message is not shown unless
the person that it names as its sender has signed it. Nothing but these answers is sent from here.
"""

import hashlib
from functools import partial

import attrs
import trio

from trio_chat.client import events
from trio_chat.client.context import ClientContext
from trio_chat.crypto.letters import Unreadable, open_letter_untrusted, open_post_untrusted
from trio_chat.crypto.receipts import sign_receipt, sign_unreadable, verify_receipt, verify_unreadable
from trio_chat.errors import KeyChanged
from trio_chat.link.session import Peer
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.messages import Answer, DirectMessage, Letters
from trio_chat.protocol.records import RETENTION, Letter, LetterKind, fold
from trio_chat.storage.interface import Entry, LetterKey, OpenedLetter

_Batches = tuple[trio.MemorySendChannel[tuple[Peer, Letters]], trio.MemoryReceiveChannel[tuple[Peer, Letters]]]


@attrs.define(eq=False)
class Inbox:
    """What one person receives. `take_message` and `take_letters` are called by the reading task and never wait."""

    _context: ClientContext
    _registered_at: float = attrs.field(init=False, default=float("inf"))
    _first_letter: bool = attrs.field(init=False, default=True)
    # A letter is unshown in the store for as long as it waits in the event queue: it must not be queued again.
    _queued: set[LetterKey] = attrs.field(init=False, factory=set)
    # One batch may wait while the letters of the one before are being queued: the server sends one at a time.
    _batches: _Batches = attrs.field(init=False, factory=lambda: trio.open_memory_channel[tuple[Peer, Letters]](1))

    def on_registered(self, at: float) -> None:
        """Note a registration: what the server took before this time (its clock) was sent while we were offline."""
        self._registered_at = at
        self._first_letter = True

    # --- what arrives ---

    def take_message(self, peer: Peer, message: DirectMessage) -> Answer | Reaction:
        """Queue a direct message, unless it has come before, and acknowledge it."""
        context = self._context
        if fold(message.recipient) != fold(context.name) or not self._is_from(peer, message.sender):
            return Reaction.SILENCE
        # The key that it has as a letter: if our receipt is lost, the same message comes again through the server.
        key = (LetterKind.DIRECT, fold(message.sender), message.id)
        if not context.store.has(key):
            if not context.event_queue.offer(events.MessageReceived(message.sender, message.text)):
                return Reaction.SILENCE  # the sender then gives it to the server, which keeps it
            context.store.saw(key)
            context.store.note(Entry(context.clock(), message.sender, message.text))
        return message.receipt(self._receipt(message.id, message.sender, message.text))

    def _is_from(self, peer: Peer, sender: str) -> bool:
        record = self._context.table.get(sender)
        try:
            keys = self._context.pins.keys(record) if record else None
        except KeyChanged:
            return False
        # The handshake of the link has proven that the peer has this key; `keys` says that it is the sender's.
        return keys is not None and keys.link == peer.key

    def take_letters(self, peer: Peer, request: Letters) -> Answer | Reaction:
        """Accept a batch of letters from the server; `letters_loop` acknowledges it when it is stored."""
        if fold(request.recipient) != fold(self._context.name):
            return Reaction.SILENCE
        # The row of somebody who registered just now may not have arrived. Without their key, the letter would
        # be unreadable, and its sender would see that.
        has_unknown_senders = any(letter.sender not in self._context.table for letter in request.letters)
        # What is stored here is removed from the server. A program that reads nothing (backlog 0) must leave it there.
        if self._context.event_queue.full or has_unknown_senders:
            return request.busy()
        try:
            self._batches[0].send_nowait((peer, request))
        except trio.WouldBlock:
            return request.busy()
        return Reaction.IN_PROGRESS

    async def letters_loop(self) -> None:
        """Store, acknowledge and queue letters until cancelled, beginning with those that an earlier program stored."""
        await self._queue_unshown()
        async for peer, request in self._batches[1]:
            opened = [self._open_untrusted(letter) for letter in request.letters]
            receipts = tuple(
                self._receipt(letter.id, letter.sender, one.text) if letter.kind is LetterKind.DIRECT else b""
                for letter, one in zip(request.letters, opened, strict=True)
            )
            unreadable = sum(
                1 << n for n, one in enumerate(opened) if one.kind is LetterKind.DIRECT and one.text is None
            )
            # Stored first: the server removes what is acknowledged, and the sender sees "received".
            await self._context.store.keep(opened)
            self._context.endpoint.answer(peer, request, request.taken(receipts, unreadable))
            await self._queue_unshown()

    # --- opening letters ---

    def _open_untrusted(self, letter: Letter) -> OpenedLetter:
        """The opened letter; its text is None unless it is certain that the sender wrote it."""
        text = ""
        try:
            match letter.kind:
                case LetterKind.DIRECT | LetterKind.GROUP:
                    text = self._read_untrusted(letter)
                case LetterKind.RECEIPT | LetterKind.UNREADABLE:
                    self._check_untrusted(letter)
        except Unreadable:
            # Not under its own id: the real letter with that id may still come, and would be dropped as a copy.
            other_id = hashlib.sha256(letter.id + letter.body).digest()[: len(letter.id)]
            return OpenedLetter(letter.kind, other_id, letter.sender, letter.sent_at, None)
        return OpenedLetter(letter.kind, letter.id, letter.sender, letter.sent_at, text, letter.count)

    def _read_untrusted(self, letter: Letter) -> str:
        key, id_, sender = self._key(letter), letter.id, letter.sender
        if letter.kind is LetterKind.GROUP:
            opened = open_post_untrusted(letter.body, key, id=id_, sender=sender)
        else:
            own, name = self._context.identity, self._context.name
            opened = open_letter_untrusted(letter.body, own, key, id=id_, sender=sender, recipient=name)
        # By the sender's signed time. The ids of older ones are forgotten: a server could have a copy shown again.
        if self._context.clock() - opened.sent_at > RETENTION:
            raise Unreadable("it may have been shown before, but that would be forgotten")
        return opened.text

    def _check_untrusted(self, letter: Letter) -> None:
        key, body, id_ = self._key(letter), letter.body, letter.id
        if letter.kind is LetterKind.RECEIPT:
            is_genuine = verify_receipt(body, key, id=id_, sender=self._context.name)
        else:
            is_genuine = verify_unreadable(key, body, id=id_, sender=self._context.name)
        if not is_genuine:
            raise Unreadable("not signed by its supposed reader")

    def _key(self, letter: Letter) -> bytes:
        # Not the key in the table: letters that are signed with the pinned one are genuine, whatever it says now.
        key = self._context.pins.signing_key(letter.sender)
        if key is None:
            raise Unreadable("nobody has this name")
        return key

    def _receipt(self, id: bytes, sender: str, text: str | None) -> bytes:
        if text is None:
            return sign_unreadable(self._context.identity, id=id, sender=sender)
        return sign_receipt(self._context.identity, id=id, sender=sender, text=text)

    async def _queue_unshown(self) -> None:
        for letter in self._context.store.unshown():
            if letter.key not in self._queued:
                self._queued.add(letter.key)
                await self._context.event_queue.put(self._event(letter), partial(self._mark_shown, letter))

    def _mark_shown(self, letter: OpenedLetter) -> None:
        self._queued.discard(letter.key)
        self._context.store.shown(letter)

    def _event(self, letter: OpenedLetter) -> events.Event:
        sender, text = letter.sender, letter.text
        match letter.kind:
            case LetterKind.MISSED:
                return events.GroupMessagesMissed(letter.count)
            case LetterKind.RECEIPT | LetterKind.UNREADABLE if text is None:
                return events.ForgedReceiptReceived(sender)
            case LetterKind.RECEIPT:
                return events.ReceiptReceived(sender, letter.sent_at)
            case LetterKind.UNREADABLE:
                return events.MessageNotOpened(sender, letter.sent_at)
        if text is None:
            return events.LetterUnreadable(sender)
        is_group = letter.kind is LetterKind.GROUP
        if letter.sent_at > self._registered_at:
            return (events.GroupMessageReceived if is_group else events.MessageReceived)(sender, text)
        first, self._first_letter = self._first_letter, False
        return events.LetterReceived(sender, text, letter.sent_at, is_group, first)
