"""What a client keeps, as a protocol; a server's is in interface.py. A backend is right if it passes tests/storage/.

Names are compared without regard to case. What a method reports as done is durable when it returns. Calls take effect
in the order in which they are made, even if an earlier one has not returned yet. Times are seconds since 1970, UTC.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import attrs

from trio_chat.crypto.receipts import NO_HASH
from trio_chat.protocol.records import EntryKind, fold
from trio_chat.storage.kept_epochs import EpochStore
from trio_chat.storage.outgoing import OutboxStore
from trio_chat.storage.sent_letters import SentLetterStore

EntryKey = tuple[str, str, bytes]
"""Kind, sender's name in lower case, id: what identifies a message, whether it comes directly or from the server."""

SERVER = ""
"""The name under which the server's key is pinned: no person's name is empty."""

SEEN_LIMIT = 100_000


@attrs.frozen
class HistoryEntry:
    """A message in the history of a client: to `peer` if it was `sent`, else from `peer`.

    `group`: to everyone or, if `room` is not empty, to the room of this name; `peer` is empty if it was sent. `at`:
    when it was sent or received, by the client's clock; of a letter, when the server took it, by the server's.
    """

    at: float
    peer: str
    text: str
    sent: bool = False
    group: bool = False
    room: str = ""


@attrs.frozen
class OpenedEntry:
    """An entry as its recipient keeps it. `text` is None if it could not be opened.

    Of a receipt, `text` is a `Verdict`; of a notice that posts were missed, their number.

    `seq`: 0 for a message that came directly. `hash`: the SHA-256 of the text; NO_HASH if there is none. `signed_at`:
    the sender's own time. `at`: when the server took it; by our own clock, for what came directly, when it came, and
    for a receipt or a failure, when the message that it is about was sent. `room`: the name of the room that it is
    about; empty for that of everyone.
    """

    seq: int
    kind: str
    id: bytes
    sender: str
    at: float
    text: str | None = ""
    hash: bytes = NO_HASH
    signed_at: float | None = None
    room: str = ""
    key: EntryKey = attrs.field(init=False, eq=False, repr=False)
    """What identifies it."""

    @key.default
    def _make_key(self) -> EntryKey:
        return (self.kind, fold(self.sender), self.id)

    @property
    def history(self) -> HistoryEntry | None:
        """Its entry in the history; None for all but messages, and for what could not be opened."""
        if self.text is None or self.kind not in (EntryKind.DIRECT, EntryKind.GROUP):
            return None
        return HistoryEntry(self.at, self.sender, self.text, group=self.kind == EntryKind.GROUP, room=self.room)


class ClientStore(EpochStore, OutboxStore, SentLetterStore, Protocol):
    """What was received and seen, letters without a receipt, keys of others, history; for one name at one server."""

    def seen(self, key: EntryKey) -> bytes | None:
        """The hash of the text that arrived under this key, directly or as an entry; None if nothing did.

        SEEN_LIMIT are known, the newest of each sender; on disk, also all that are in the history. Those who have sent
        most give way. NO_HASH: there is no text, or it came before hashes were kept.
        """

    def saw(self, key: EntryKey, hash: bytes) -> None:
        """Remember a receipt that came with the answer to a Save. May become durable a little later (100 ms)."""

    async def keep(self, entries: Iterable[OpenedEntry]) -> None:
        """Make entries durable: unshown until `shown` is called, or as they are if they arrived before."""

    def keep_soon(self, entry: OpenedEntry) -> None:
        """As `keep`, for what came directly. May become durable a little later (100 ms): see `flush`."""

    async def flush(self) -> None:
        """Return when all is durable that this store was given before the call: it hastens nothing."""

    def unshown(self) -> list[OpenedEntry]:
        """Entries kept but not shown, in order."""

    def shown(self, entry: OpenedEntry) -> None:
        """Mark a kept entry as shown, and add it to the history. May become durable a little later (100 ms)."""

    def pinned(self, name: str) -> bytes | None:
        """The Ed25519 key that was pinned for a name, or for SERVER; None if there is none."""

    def pin(self, name: str, key: bytes) -> None:
        """Pin this key for a name, in place of any other. May become durable a little later (100 ms)."""

    def pin_count(self) -> int:
        """How many keys are pinned."""

    def blocked(self) -> Mapping[bytes, str]:
        """The Ed25519 keys that are blocked, and the name under which each was, the oldest first. A live view."""

    async def block(self, key: bytes, name: str) -> None:
        """Block a key, unless it is blocked. It counts from the call on, and is durable when this returns."""

    async def unblock(self, key: bytes) -> None:
        """Block a key no longer. It counts from the call on, and is durable when this returns."""

    def note(self, entry: HistoryEntry) -> None:
        """Add what was sent to the history. May become durable a little later (100 ms)."""

    async def history(self, peer: str | None, count: int) -> list[HistoryEntry]:
        """The newest entries, oldest first: all, or those of one peer. Raises NoHistory if none is kept.

        `peer`: the name of a person; with `#` before it, that of a room.

        When there are too many, the oldest ones of the longest conversations go: nobody pushes out those of others.
        """

    async def search(self, words: str, count: int, peer: str | None = None) -> list[HistoryEntry]:
        """The newest entries with all these words in their texts, oldest first: of all, or as `history` of one peer.

        Case and accents do not matter; the last word may be the beginning of one. There are no operators. Raises
        NoHistory if none is kept.
        """
