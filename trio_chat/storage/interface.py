"""What a server and a client keep, as protocols: any backend that passes the contract tests will do.

Names are compared without regard to case. What a method reports as done is durable when it returns. Calls take effect
in the order in which they are made, whether or not the one before has returned.
Times are seconds since 1970, UTC.
"""

import enum
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import attrs

from trio_chat.protocol.records import Letter, LetterKind, Record

__all__ = [
    "BATCH_BYTES",
    "BATCH_LETTERS",
    "MAILBOX_BYTES",
    "MAILBOX_LETTERS",
    "ClientStore",
    "Kept",
    "LetterKey",
    "OpenPost",
    "ServerStore",
    "Status",
]

LetterKey = tuple[LetterKind, str, bytes]

MAILBOX_LETTERS = 1000
MAILBOX_BYTES = 1024 * 1024
BATCH_LETTERS = 64
BATCH_BYTES = 16 * 1024


class Status(enum.Enum):
    """What came of a Save or a GroupPost: kept just now, or what a former copy of it was answered."""

    NEW = "kept now"
    SAVED = "kept before"
    DELIVERED = "handed over before"
    FULL = "the mailbox is full"


@attrs.frozen
class Kept:
    """A status, and when the server took the message (at its first copy)."""

    status: Status
    sent_at: float


@attrs.frozen
class OpenPost:
    """A group message whose fan-out had not ended, and the names that still have to get it."""

    letter: Letter
    left: frozenset[str]


class ServerStore(Protocol):
    """Names, mailboxes, open group posts, and the answers given to Saves and GroupPosts."""

    async def load(self) -> tuple[list[Record], list[str], list[OpenPost]]:
        """All names ever registered, off line; the names with letters waiting; the open posts in order."""
        ...

    async def enrol(self, record: Record) -> int:
        """Remember a name; return how many letters will come to it: receipts left out, open posts counted."""
        ...

    async def save(self, recipient: str, letter: Letter) -> Kept:
        """Put a direct letter at the end of a mailbox, unless (sender, id) has been answered before or it is full.

        A mailbox holds MAILBOX_LETTERS letters or MAILBOX_BYTES of text, receipts not counted.
        """
        ...

    async def post(self, letter: Letter, recipients: Collection[str]) -> Kept:
        """Keep a group letter with the names that have to get it; its place in their mailboxes is that of now."""
        ...

    async def finish_post(self, letter: Letter, left: Collection[str]) -> None:
        """Turn an open post into letters for those left; the post goes, in the same transaction.

        Where a mailbox is full the letter is not kept but counted.
        """
        ...

    async def waiting(self, name: str) -> Sequence[Letter]:
        """The oldest letters of a mailbox, in order: at most BATCH_LETTERS, and BATCH_BYTES of text or one letter.

        When these are the last ones and group letters were not kept, a letter with their count follows.
        """
        ...

    async def acknowledge(self, name: str, letters: Iterable[Letter], relayed: Collection[LetterKey]) -> list[str]:
        """Remove letters that have been handed over. In the same transaction, for each direct one that was there:
        its Save is answered Delivered from now on if it is among `relayed`, else a receipt goes to its sender.

        Returns the names that got receipts.
        """
        ...

    async def forget_answers(self, before: float) -> None:
        """Drop the answers to Saves and GroupPosts that were taken before this time."""
        ...


class ClientStore(Protocol):
    """Letters received and what has been seen, for one name at one server."""

    def has(self, key: LetterKey) -> bool:
        """Has the message with this `Letter.key` come before, on whichever path?"""
        ...

    def saw(self, key: LetterKey) -> None:
        """A direct message came straight from its sender. May become durable a little later (100 ms)."""
        ...

    async def keep(self, letters: Iterable[Letter]) -> None:
        """Make letters durable, those left out that came before; they are unshown until `shown`."""
        ...

    def unshown(self) -> list[Letter]:
        """Letters kept but not shown, in order."""
        ...

    def shown(self, letter: Letter) -> None:
        """A kept letter has been shown. May become durable a little later (100 ms)."""
        ...
