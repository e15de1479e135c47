"""What a server and a client keep, as protocols. A backend is right if it passes the tests in tests/storage/.

Names are compared without regard to case. What a method reports as done is durable when it returns. Calls take effect
in the order in which they are made, even if an earlier one has not returned yet. Times are seconds since 1970, UTC.
"""

import enum
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import attrs

from trio_chat.protocol.messages import MAX_BATCH
from trio_chat.protocol.records import Letter, LetterKind, Record, fold

LetterKey = tuple[LetterKind, str, bytes]

MAILBOX_LETTERS = 1000
MAILBOX_BYTES = 1024 * 1024
BATCH_LETTERS = MAX_BATCH
BATCH_BYTES = 16 * 1024

SERVER = ""
"""The name under which the server's key is pinned: no person's name is empty."""


class Status(enum.Enum):
    """The result of a Save or a GroupPost: kept now, or the answer that an earlier copy of it got."""

    NEW = "kept now"
    SAVED = "kept before"
    DELIVERED = "handed over before"
    UNREADABLE = "handed over before, could not be opened"
    FULL = "the mailbox is full"


@attrs.frozen
class Kept:
    """A status, the time when the server took the first copy, and the recipient's receipt if there is one."""

    status: Status
    sent_at: float
    receipt: bytes = b""


@attrs.frozen
class OpenPost:
    """A group message whose fan-out has not ended, and the names that have not got it yet."""

    letter: Letter
    left: frozenset[str]


@attrs.frozen
class HandedOver:
    """A letter that its recipient has acknowledged, their receipt, and whether they could open it."""

    letter: Letter
    receipt: bytes = b""
    opened: bool = True


def oldest_batch(letters: Iterable[Letter]) -> list[Letter]:
    """The first of these letters, as many as go together: at most BATCH_LETTERS and BATCH_BYTES, but at least one."""
    batch: list[Letter] = []
    size = 0
    for letter in letters:
        size += len(letter.body)
        if batch and (size > BATCH_BYTES or len(batch) == BATCH_LETTERS):
            break
        batch.append(letter)
    return batch


class ServerStore(Protocol):
    """Names, mailboxes, open group posts, and the answers given to Saves and GroupPosts."""

    async def load(self) -> tuple[list[Record], list[str], list[OpenPost]]:
        """All names ever registered, as offline; the names with letters waiting; the open posts in order."""

    async def save_name(self, record: Record) -> int:
        """Remember a name with the credentials of this record.

        Returns how many letters wait for it: without receipts, with open posts.
        """

    async def forget(self, name: str) -> bool:
        """Remove a name's credentials: the next key that registers it owns it and its mailbox. False: no such name."""

    async def save(self, recipient: str, letter: Letter) -> Kept:
        """Put a direct letter at the end of a mailbox, unless (sender, id) has been answered before or it is full.

        A mailbox holds MAILBOX_LETTERS letters or MAILBOX_BYTES of bodies, RECEIPTS not counted.
        """

    async def post(self, letter: Letter, recipients: Collection[str]) -> Kept:
        """Keep a group letter with the names that have to get it; its place in their mailboxes is that of now."""

    async def finish_post(self, letter: Letter, left: Collection[str]) -> None:
        """Turn an open post into letters for those left, and remove the post, in the same transaction.

        Where a mailbox is full the letter is not kept but counted.
        """

    async def waiting(self, name: str) -> Sequence[Letter]:
        """The oldest letters of a mailbox, in order: see `oldest_batch`.

        When these are the last ones and group letters were not kept, a letter with their count follows.
        """

    async def acknowledge(self, name: str, handed: Iterable[HandedOver], relayed: Collection[LetterKey]) -> list[str]:
        """Remove letters that have been handed over. In the same transaction, for each direct one that was there:
        if it is among `relayed`, its Save is answered DELIVERED or UNREADABLE from now on, with the receipt; else a
        letter of kind RECEIPT or UNREADABLE, with the receipt as its body, goes to its sender.

        Returns the names that got receipts.
        """

    async def forget_answers(self, before: float) -> None:
        """Drop the answers to Saves and GroupPosts that were taken before this time."""


@attrs.frozen
class Entry:
    """A message in the history of a client: to `peer` if it was `sent`, else from `peer`.

    `group`: to everyone; `peer` is empty if it was sent. `at`: when it was sent or received, by the client's clock; of
    a letter, when the server took it, by the server's.
    """

    at: float
    peer: str
    text: str
    sent: bool = False
    group: bool = False


@attrs.frozen
class OpenedLetter:
    """A letter as its recipient keeps it. `text` is None if it could not be opened."""

    kind: LetterKind
    id: bytes
    sender: str
    sent_at: float
    text: str | None = ""
    count: int = 0

    @property
    def key(self) -> LetterKey:
        """The same as that of the Letter."""
        return (self.kind, fold(self.sender), self.id)

    @property
    def entry(self) -> Entry | None:
        """Its entry in the history; None for receipts, counts, and what could not be opened."""
        if self.text is None or self.kind not in (LetterKind.DIRECT, LetterKind.GROUP):
            return None
        return Entry(self.sent_at, self.sender, self.text, group=self.kind is LetterKind.GROUP)


class ClientStore(Protocol):
    """Letters received, the messages seen, the keys of others, and the history, for one name at one server."""

    def has(self, key: LetterKey) -> bool:
        """Whether the message with this `Letter.key` has arrived before, directly or as a letter."""

    def saw(self, key: LetterKey) -> None:
        """Remember a message that came directly from its sender. May become durable a little later (100 ms)."""

    async def keep(self, letters: Iterable[OpenedLetter]) -> None:
        """Make letters durable, except those that arrived before. They are unshown until `shown` is called."""

    def unshown(self) -> list[OpenedLetter]:
        """Letters kept but not shown, in order."""

    def shown(self, letter: OpenedLetter) -> None:
        """Mark a kept letter as shown, and add it to the history. May become durable a little later (100 ms)."""

    def pinned(self, name: str) -> bytes | None:
        """The Ed25519 key that was pinned for a name, or for SERVER; None if there is none."""

    def pin(self, name: str, key: bytes) -> None:
        """Pin this key for a name, in place of any other. May become durable a little later (100 ms)."""

    def note(self, entry: Entry) -> None:
        """Add what did not come as a letter to the history. Durable a little later, with a `saw` at that time."""

    async def history(self, peer: str | None, count: int) -> list[Entry]:
        """The newest entries, oldest first: all, or those of one peer. Raises NoHistory if none is kept."""

    async def search(self, words: str, count: int) -> list[Entry]:
        """The newest entries with all these words in their texts, oldest first.

        Case and accents do not matter; the last word may be the beginning of one. There are no operators. Raises
        NoHistory if none is kept.
        """
