"""What arrives at a client, directly or as entries of the server's log: each is queued for the user once.

A direct message is acknowledged when it is queued, an entry when the store has it. A message is not shown unless the
person that it names as its sender has signed it. Nothing but these answers is sent from here: that a direct message is
on the disk is told by kept_notices.py.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import attrs
import trio

from trio_chat.client import events
from trio_chat.client.context import ClientContext
from trio_chat.client.entry_events import PRIVATE, event_of
from trio_chat.client.kept_notices import KeptNotices
from trio_chat.client.members_changes import id_of_epoch
from trio_chat.client.second_texts import SecondTexts
from trio_chat.crypto.letters import (
    TO_EVERYONE,
    OpenedText,
    SignedRoom,
    Unreadable,
    open_letter_untrusted,
    open_post_untrusted,
)
from trio_chat.crypto.receipts import HASH_SIZE, NO_HASH, Verdict, hash_text, read_receipt, sign_receipt
from trio_chat.crypto.room_keys import open_sealed_post_untrusted
from trio_chat.errors import ChatError, KeyChanged, KeyNotRemembered
from trio_chat.link.session import Peer
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.log import room_of
from trio_chat.protocol.messages import Answer, Batch, DirectMessage
from trio_chat.protocol.records import NO_KEY, Entry, EntryKind, fold, is_private
from trio_chat.storage.client_interface import EntryKey, OpenedEntry
from trio_chat.storage.sent_letters import SentLetter
from trio_chat.tasks import WakeUp

_MISSED = re.compile(rb"([0-9]{1,16})( [#!][0-9a-f]{32})?")
_ABOUT_LETTERS = (EntryKind.RECEIPT, EntryKind.FAILED)


@attrs.define(eq=False)
class ExpectedReceipt:
    """The receipt that `Chat.send` waits for. When it comes as an entry, `until_it_comes` is cancelled."""

    until_it_comes: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    verdict: Verdict | None = None


@attrs.define(eq=False)
class Inbox:
    """What one person receives. `take_message` and `take_batch` are called by the reading task and never wait.

    `get_missing` asks for the epochs of private rooms that entries need and that we do not have.
    """

    _context: ClientContext
    _get_missing: Callable[[Sequence[Entry]], Awaitable[None]]
    kept_notices: KeptNotices = attrs.field(init=False)
    _second_texts: SecondTexts = attrs.field(init=False)
    # Before the first registration only what an earlier program stored is shown.
    _head: float = attrs.field(init=False, default=float("inf"))
    _first_letter: bool = attrs.field(init=False, default=True)
    # An entry is unshown in the store for as long as it waits in the event queue: it must not be queued again.
    _queued: set[EntryKey] = attrs.field(init=False, factory=set)
    _expected: dict[bytes, ExpectedReceipt] = attrs.field(init=False, factory=dict)
    # Receipts that the store has, or gets at this moment, and that the user has seen as the result of `Chat.send`.
    _told: set[EntryKey] = attrs.field(init=False, factory=set)
    # One batch may wait while the entries of the one before are being queued: the server sends one at a time.
    _batch: tuple[Peer, Batch] | None = attrs.field(init=False, default=None)
    # What is being stored, and is not queued yet.
    _taking: frozenset[EntryKey] = attrs.field(init=False, default=frozenset())
    _wake_up: WakeUp = attrs.field(init=False, factory=WakeUp)

    def __attrs_post_init__(self) -> None:
        self.kept_notices, self._second_texts = KeptNotices(self._context), SecondTexts(self._context)

    def on_registered(self, head: int, private_rooms: int) -> None:
        """Note a registration: the entries of the log up to `head` were sent while we were offline."""
        # At the start, what an earlier program had not shown has come before.
        self._first_letter |= self._head != float("inf")
        self._head = head
        self._context.memberships.forget()
        self._context.epochs.look_at_all(private_rooms)

    # --- what arrives ---

    def take_message(self, peer: Peer, message: DirectMessage) -> Answer | Reaction:
        """Queue a direct message, unless it has come before, and acknowledge it: before it is on the disk."""
        context, text_hash = self._context, hash_text(message.text)
        if fold(message.recipient) != fold(context.name) or not self._is_from(peer, message.sender):
            return Reaction.SILENCE
        # As if no program was here.
        if self._is_blocked(context.pins.signing_key(message.sender)):
            return Reaction.SILENCE
        # With the key that it has as a letter: if our receipt is lost, the same message comes again through the server.
        entry = OpenedEntry(0, EntryKind.DIRECT, message.id, message.sender, context.clock(), message.text, text_hash)
        # The sender would send the next message directly, and that would be queued first.
        if entry.key in self._taking:
            return Reaction.SILENCE
        known = context.store.seen(entry.key)
        if known is None:
            event = events.MessageReceived(message.sender, message.text)
            if not context.event_queue.offer(event, partial(self._mark_shown, entry)):
                return Reaction.SILENCE  # the sender then gives it to the server, which keeps it
            self._queued.add(entry.key)
            context.store.keep_soon(entry)
        elif not self._second_texts.is_same(entry, known):
            # Another text under a known id is not shown, and an Ack would say that it is.
            return Reaction.SILENCE
        if message.sender_keeps:
            self.kept_notices.add(peer, message.sender, message.id)
        return message.ack()

    def _is_blocked(self, key: bytes | None) -> bool:
        return key in self._context.store.blocked()

    def _is_from(self, peer: Peer, sender: str) -> bool:
        record = self._context.table.get(sender)
        try:
            keys = self._context.pins.keys(record) if record else None
        except (KeyChanged, KeyNotRemembered):
            return False
        # The handshake of the link has proven that the peer has this key; `keys` says that it is the sender's.
        return keys is not None and keys.link == peer.key

    def take_batch(self, peer: Peer, batch: Batch) -> Answer | Reaction:
        """Accept entries from the server; `batches_loop` acknowledges those that it has stored."""
        if fold(batch.recipient) != fold(self._context.name):
            return Reaction.SILENCE
        # What is stored here is removed from the server. A program that reads nothing (backlog 0) must leave it there.
        if not self._context.event_queue.room or self._batch is not None:
            return batch.busy()
        self._batch = (peer, batch)
        self._wake_up.set()
        return Reaction.IN_PROGRESS

    async def batches_loop(self) -> None:
        """Store, acknowledge and queue entries until cancelled, beginning with those that an earlier program stored."""
        while True:
            await self._queue_unshown()
            self._taking = frozenset()
            await self._wake_up.wait()
            if self._batch is not None:
                taken, self._batch = self._batch, None
                await self._take(*taken)

    async def _take(self, peer: Peer, batch: Batch) -> None:
        context = self._context
        # No more than the user can be shown: what is in the store is in memory, too.
        room = context.event_queue.room
        if not room:
            context.endpoint.answer(peer, batch, batch.busy())
            return
        # A batch that begins with such a notice is taken as a whole: what the notice counts is missed in all of it.
        entries = batch.entries if batch.entries[0].kind == EntryKind.MISSED else batch.entries[:room]
        # Only of those who have sent something here: else a server could pin any keys for people nobody has heard of.
        sent = {(fold(entry.sender), entry.key) for entry in entries}
        for name, credentials in batch.senders:
            if (fold(name), credentials.keys.signing) in sent:
                context.pins.pin_sender(name, credentials)
        try:
            await self._get_missing(entries)
        except ChatError:
            # What cannot be opened now may be opened when the batch comes again.
            context.endpoint.answer(peer, batch, batch.busy())
            return
        opened, receipts = self._open_all(entries, dict(batch.rooms))
        # Looked up before the wait: a receipt is for the letter that was sent then (seed 20091, one id for two texts).
        expected = {one.id: self._expected.get(one.id) for one in opened if one.kind == EntryKind.RECEIPT}
        # Stored first: the server removes what is acknowledged, and the sender sees "received".
        self._taking = frozenset(one.key for one in opened)
        await context.store.keep(opened)
        # After the entries: an epoch that is known says nothing new when it comes again.
        await context.epochs.keep()
        context.endpoint.answer(peer, batch, batch.taken(len(entries), receipts))
        for one in opened:
            if one.kind in _ABOUT_LETTERS:
                context.store.settled(one.id)  # what is forged has another id: it settles nothing
            # One that the user has been shown says no verdict: it comes again while a copy of the letter is being sent
            # (seed 500968 ended the program here). The answer to the copy says the same.
            if one.kind == EntryKind.RECEIPT and one.text and (waiting := expected[one.id]):
                waiting.verdict = Verdict(one.text or "")
                waiting.until_it_comes.cancel()

    async def show(self, entry: OpenedEntry) -> None:
        """Store and queue something that was not handed over, but asked for."""
        await self._context.store.keep([entry])
        self._wake_up.set()

    # --- receipts that are the result of `Chat.send` ---

    @contextmanager
    def expect_receipt(self, letter: SentLetter) -> Iterator[ExpectedReceipt]:
        """Keep back what comes about a letter during this block. Then it becomes an event, unless `told` was called."""
        expected = self._expected[letter.id] = ExpectedReceipt()
        try:
            yield expected
        finally:
            del self._expected[letter.id]
            self._wake_up.set()

    def told(self, letter: SentLetter) -> None:
        """The user knows what the recipient has signed: the entry that says so is not shown, now or when it comes."""
        key = (EntryKind.RECEIPT, fold(letter.recipient), letter.id)
        # If it is being stored at this moment, it will be unshown in the store in a moment.
        if self._context.store.seen(key) is None:
            self._context.store.saw(key, NO_HASH)
        else:
            self._told.add(key)
        self._context.store.settled(letter.id)

    # --- opening entries ---

    def _open_all(
        self, entries: Sequence[Entry], rooms: Mapping[str, str]
    ) -> tuple[list[OpenedEntry], tuple[bytes, ...]]:
        """What is to be stored of these entries, and a receipt for each letter: an empty one to those who are blocked.

        The server then tells the sender nothing. `rooms`: the names that the server gives for the ids of rooms.
        """
        opened: list[OpenedEntry] = []
        receipts: list[bytes] = []
        hashes: dict[EntryKey, bytes] = {}
        for entry in entries:
            one = self._open(entry, rooms)
            if one is None:
                if entry.kind == EntryKind.DIRECT:
                    receipts.append(b"")
                continue
            shown = hashes.setdefault(one.key, self._context.store.seen(one.key) or one.hash)
            # Another text under a known id is not shown: `keep` leaves it out. If we signed that we have it, a sender
            # could show a message, say another thing under the same id, and prove that we have read that.
            signed = one.hash if self._second_texts.is_same(one, shown) else NO_HASH
            if one.kind == EntryKind.DIRECT:
                receipts.append(self._receipt(entry.id, entry.sender, signed))
            opened.append(one)
        return opened, tuple(receipts)

    def _open(self, entry: Entry, rooms: Mapping[str, str]) -> OpenedEntry | None:
        """The opened entry; None for what is acknowledged and not kept."""
        opened = partial(OpenedEntry, entry.seq, entry.kind)
        match entry.kind:
            case EntryKind.DIRECT:
                return self._open_text(entry, TO_EVERYONE)
            case EntryKind.GROUP | EntryKind.MISSED | EntryKind.JOINED | EntryKind.LEFT:
                return self._open_of_room(entry, rooms)
            case EntryKind.EPOCH:
                return self._open_epoch(entry)
            case EntryKind.REMOVED:
                return self._open_removal(entry)
            case EntryKind.RECEIPT if letter := self._letter(entry):
                verdict = self._read_receipt_untrusted(entry, letter)
                id_ = _other_id(entry) if verdict is Verdict.FORGED else entry.id
                return opened(id_, entry.sender, letter.at, verdict)
            case EntryKind.FAILED if (letter := self._letter(entry)) and fold(letter.recipient) == fold(entry.sender):
                return opened(entry.id, entry.sender, letter.at)
            # The user knows it from the answer to a Save, the disk perhaps not yet: `keep` writes that first. One that
            # was acknowledged before did not come again after a kill: "received" became "saved" (seed 200041).
            case EntryKind.RECEIPT if self._context.store.seen(opened(entry.id, entry.sender, 0.0).key) is not None:
                return opened(entry.id, entry.sender, entry.taken_at)
        # A newer server may have other kinds, for other programs of ours.
        return None

    def _open_of_room(self, entry: Entry, rooms: Mapping[str, str]) -> OpenedEntry | None:
        memberships, epochs, id_ = self._context.memberships, self._context.epochs, room_of(entry)
        # A batch that is sent again may have posts to a room that we have left meanwhile.
        if not memberships.is_for_us(id_, entry.seq) or epochs.is_ignored(id_):
            return None
        signed_name = epochs.name(id_)
        room = SignedRoom(id_, signed_name) if signed_name else memberships.signed_room(id_, rooms)
        name = room.name if room else ""
        if name:
            memberships.hear(name)
        opened = partial(OpenedEntry, entry.seq, entry.kind, entry.id, entry.sender, entry.taken_at, room=name)
        is_own = fold(entry.sender) == fold(self._context.name)
        match entry.kind:
            case EntryKind.MISSED if found := _MISSED.fullmatch(entry.body):
                return opened(found[1].decode())
            case EntryKind.GROUP if not is_own:
                return self._open_text(entry, room)
            # Who comes and goes is told to those who are there. What the server still has of it is not for the others.
            case EntryKind.JOINED | EntryKind.LEFT if name and not is_own and entry.seq > self._head:
                epochs.look_at(id_)
                return None if self._is_from_blocked(entry) else opened(PRIVATE if is_private(id_) else "")
        return None

    def _open_epoch(self, entry: Entry) -> OpenedEntry | None:
        context, room = self._context, entry.recipient
        opened = partial(OpenedEntry, entry.seq, entry.kind)
        try:
            change = context.epochs.take_untrusted(entry.body, room, entry.seq)
        except Unreadable:
            # Of a room that we are, or were, in. Else anybody could show lines by inviting us to what nobody can open.
            if context.epochs.name(room) is None:
                context.epochs.ignore(room)
                return None
            return opened(_other_id(entry), entry.sender, entry.taken_at, None, room=context.epochs.name(room) or "")
        # What we have changed ourselves we know as the result of that.
        if change is None or fold(change.owner) == fold(context.name) or self._is_blocked(change.epoch.owner):
            return None
        return opened(id_of_epoch(entry.body), change.owner, entry.taken_at, str(change), room=change.epoch.name)

    def _open_removal(self, entry: Entry) -> OpenedEntry | None:
        room = entry.body.decode(errors="replace")
        name = self._context.epochs.removed(room, entry.seq)
        if name is None or self._is_from_blocked(entry):
            return None
        # Not the id of the entry, which the server may have used before: it would not be shown, then.
        id_ = hashlib.sha256(f"removed {room} {entry.seq}".encode()).digest()[: len(entry.id)]
        return OpenedEntry(entry.seq, entry.kind, id_, entry.sender, entry.taken_at, room=name)

    def _open_text(self, entry: Entry, room: SignedRoom | None) -> OpenedEntry | None:
        if self._is_blocked(entry.key):
            return None
        opened = partial(OpenedEntry, entry.seq, entry.kind, room=room.name if room else "")
        try:
            read = self._read_untrusted(entry, room)
        except Unreadable:
            return opened(_other_id(entry), entry.sender, entry.taken_at, None)
        # The key in the entry is what the server says. The one that has signed it is the pinned one.
        if self._is_from_blocked(entry):
            return None
        return opened(entry.id, entry.sender, entry.taken_at, read.text, hash_text(read.text), read.sent_at)

    def _is_from_blocked(self, entry: Entry) -> bool:
        return self._is_blocked(entry.key) or self._is_blocked(self._context.pins.signing_key(entry.sender))

    def _read_untrusted(self, entry: Entry, room: SignedRoom | None) -> OpenedText:
        context, id_, sender = self._context, entry.id, entry.sender
        # Not the key in the table or the entry: what is signed with the pinned one is genuine, whatever these say.
        key = context.pins.signing_key(sender)
        if key is None:
            raise Unreadable("nobody has this name")
        if room is None:
            raise Unreadable("no room that we know has this id")
        if is_private(entry.recipient):
            room_key = context.epochs.key_of_post(entry, key)
            return open_sealed_post_untrusted(entry.body, room_key, key, id=id_, sender=sender)
        if entry.kind == EntryKind.GROUP:
            return open_post_untrusted(entry.body, key, id=id_, sender=sender, room=room)
        return open_letter_untrusted(entry.body, context.identity, key, id=id_, sender=sender, recipient=context.name)

    def _letter(self, entry: Entry) -> SentLetter | None:
        """The letter of ours that an entry is about. If it may be one that we do not remember, what the entry says."""
        store = self._context.store
        letter = store.sent(entry.id)
        if letter is None and not store.knows_all_sent():
            key = self._context.pins.signing_key(entry.sender) or NO_KEY
            letter = SentLetter(entry.id, entry.sender, key, entry.body[:HASH_SIZE], entry.taken_at)
        return letter

    def _read_receipt_untrusted(self, entry: Entry, letter: SentLetter) -> Verdict:
        if fold(letter.recipient) != fold(entry.sender):
            return Verdict.FORGED
        return read_receipt(entry.body, letter.key, id=letter.id, sender=self._context.name, text_hash=letter.hash)

    def _receipt(self, id: bytes, sender: str, text_hash: bytes) -> bytes:
        return sign_receipt(self._context.identity, id=id, sender=sender, text_hash=text_hash)

    # --- showing entries ---

    async def _queue_unshown(self) -> None:
        # A list made beforehand: what is queued now may have been shown when its turn comes, while this waits for room.
        for entry in [one for one in self._context.store.unshown() if one.key not in self._queued]:
            if entry.key in self._told:
                self._told.discard(entry.key)
                self._context.store.shown(entry)
            elif not (entry.kind in _ABOUT_LETTERS and entry.id in self._expected):
                self._queued.add(entry.key)
                event, shown = self._event(entry), partial(self._mark_shown, entry)
                # At once, if there is room: their senders know that we have them, and what they send directly now must
                # not be queued before the last one of a batch.
                if not self._context.event_queue.offer(event, shown):
                    await self._context.event_queue.put(event, shown)

    def _mark_shown(self, entry: OpenedEntry) -> None:
        self._queued.discard(entry.key)
        self._context.store.shown(entry)
        # Again: after a kill between `keep` and the write of `settled` the letter would wait for its receipt for ever.
        if entry.kind in _ABOUT_LETTERS and entry.text != Verdict.FORGED:
            self._context.store.settled(entry.id)

    def _event(self, entry: OpenedEntry) -> events.Event:
        event = event_of(entry, is_new=entry.seq > self._head, is_first=self._first_letter)
        self._first_letter &= not isinstance(event, events.LetterReceived)
        return event


def _other_id(entry: Entry) -> bytes:
    """The id under which something is kept that is not what it claims to be."""
    # Not its own: the real entry with that id may still come, and would be dropped as a copy.
    return hashlib.sha256(entry.id + entry.body).digest()[: len(entry.id)]
