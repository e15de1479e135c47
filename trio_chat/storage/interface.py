"""What a server keeps, as a protocol; a client's is in client_interface.py. A backend is right if tests/storage/ pass.

Names are compared without regard to case. What a method reports as done is durable when it returns. Calls take effect
in the order in which they are made, even if an earlier one has not returned yet. Times are seconds since 1970, UTC.
"""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Protocol

import attrs
from msgspec import Meta

from trio_chat.protocol.limits import Limits
from trio_chat.protocol.log import Page
from trio_chat.protocol.records import Address, Credentials, Entry, Record, Room
from trio_chat.storage.rules import Ban, Invitation

MAILBOX_LETTERS = 1000
MAILBOX_BYTES = 1024 * 1024

MAX_PAST_OWNERS = 20_000
"""Twice the names that a server knows: within 30 days no more than these can become unused and be deleted, which is all
that strangers can do here. The other half is for what operators do.
"""


class Status(enum.Enum):
    """What became of an entry that should be appended."""

    NEW = "it is in the log now"
    KNOWN = "it was in the log"
    FULL = "the recipient has too many letters, or the room too many members"
    UNKNOWN = "its recipient has been deleted, or there is no such room"
    CONFLICT = "its id belongs to another message"
    NOT_A_MEMBER = "its sender is not in the room"
    EXISTS = "there is a room of this name"
    TOO_MANY_ROOMS = "its sender is in too many rooms"
    NO_MORE_ROOMS = "there are too many rooms"
    PRIVATE = "the room is private, and its sender is not in it"
    NOT_AN_OWNER = "its sender does not own the room"
    WRONG_EPOCH = "the room has another epoch, or somebody in it has left the room"
    UNKNOWN_MEMBER = "a new member does not have this name and this key"
    THEY_ARE_IN_TOO_MANY = "a new member is in too many rooms"


@attrs.frozen
class Appended:
    """`seq`: its number, if it is in the log. `receipt`: its recipient's, if it is a letter and they have taken it."""

    status: Status
    seq: int = 0
    receipt: bytes = b""


@attrs.frozen
class RoomChange:
    """What became of a request about a room, the room as who asked sees it now, and the entry that has changed it."""

    status: Status
    room: Room | None = None
    seq: int = attrs.field(default=0, eq=False)


@attrs.frozen
class StoredEpoch:
    """An epoch of a private room: the entry of the log with which it began, its number, and the signed bytes."""

    seq: int
    n: int
    body: bytes


@attrs.frozen
class KnownName:
    """A name, as offline. `owner`: the credentials of its owner or, if it was freed, of its last one, if known.

    The record of a name that was freed has no credentials. `reserved`: the fingerprint of the only key that may take it
    then; empty if any may.
    """

    record: Record
    owner: Credentials | None
    reserved: Annotated[str, Meta(max_length=32)] = ""


@attrs.frozen
class Position:
    """How far a name has everything (`seq`), how many letters and posts wait for it, and the end of the log.

    If more than 10,000 posts wait, with those that it has sent itself, fewer are counted.
    `rooms`: those that it is in besides that of everyone, and the entry with which it joined each.
    """

    seq: int
    waiting: int
    head: int
    rooms: Mapping[str, int] = attrs.field(factory=dict)


@attrs.frozen
class Acknowledged:
    """A name has taken everything up to a number. `receipts`: the receipts for the letters in it, by their numbers."""

    name: str
    upto: int
    receipts: Mapping[int, bytes] = attrs.field(factory=dict)


OnAppended = Callable[[Sequence[Entry]], object]


class ServerStore(Protocol):
    """The names, one position for each, and the log: what was taken from clients and has to be handed over.

    An entry is unique by its kind, its sender's key and its id. The log keeps of it what answers a copy of its request.
    """

    async def load(self, on_appended: OnAppended) -> tuple[list[KnownName], int]:
        """All names ever registered, in the order in which they last came or went, and the head of the log.

        From then on `on_appended` is called with the entries that a transaction has appended, once they are durable and
        before any method returns: in order, none left out. It must not wait.
        """

    async def past_owners(self) -> list[tuple[str, Credentials]]:
        """Names, and the credentials of those who have lost them: in that order, each name and key once.

        A name is lost when it is deleted or has another owner. The credentials are kept while the log has an entry from
        before that, of up to MAX_PAST_OWNERS: the oldest go.
        """

    async def save_name(self, record: Record, invitation: bytes = b"") -> Position:
        """Remember a name with the credentials of this record, and that it is online; `record.since` is the time.

        The invitation with this hash, if one is given, is gone in the same moment.

        A new name begins at the head. So does one that another key owned before; then each letter for it that has no
        receipt is answered with an entry of kind FAILED.
        """

    async def online(self) -> list[tuple[str, Address]]:
        """The names that are online and where, as `save_name` and `note_online` have left it: also those of a server
        that was killed.
        """

    async def note_online(self, changes: Mapping[str, Address | float]) -> None:
        """These names are online at another address, or are not since this time (seconds since 1970, UTC)."""

    async def forget(self, name: str, only_for: str = "") -> bool:
        """Free a name: the next key that registers it owns it. False: no such name.

        `only_for`: the fingerprint of the only key that may do so.
        """

    async def delete(self, name: str, at: float) -> bool:
        """Remove a name, and answer each letter that waits for it with an entry of kind FAILED. False: no such name."""

    async def unused(self, online: Iterable[str], before: float, now: float) -> list[str]:
        """The names that were last online before this time, by earlier calls, and for which no letter waits.

        `online`: those who are online now. Who has registered since the last call was online at this one.
        """

    async def rules(self) -> tuple[list[Ban], list[Invitation]]:
        """All bans, and all invitations that were not used."""

    async def ban(self, bans: Iterable[Ban]) -> None:
        """Add bans."""

    async def unban(self, bans: Iterable[Ban]) -> None:
        """Remove bans."""

    async def invite(self, invitation: Invitation, now: float) -> None:
        """Add an invitation, and drop those that are too old by now."""

    async def append(self, entries: Sequence[Entry]) -> list[Appended]:
        """Append letters and posts, in this order, and give them their numbers.

        Who posts to a room must be in it. A mailbox holds MAILBOX_LETTERS letters or MAILBOX_BYTES of their bodies, of
        each sender's key a fair share: see limits.py. Of the posts to a room ROOM_POSTS or ROOM_BYTES are kept, the
        newest of each sender's key, and of each key a fair share: see shares.py. The others are only counted. Copies of
        letters and posts are known while these have to be handed over, or are among the newest REMEMBERED entries.

        A post to a private room is sealed with the key of an epoch: of another than the present one it is refused.
        """

    async def change_room(self, entry: Entry, limits: Limits, origin: str = "") -> RoomChange:
        """Create (CREATED), join (JOINED) or leave (LEFT) a room, or begin an epoch (EPOCH) of a private one.

        The body of the entry is the name of the room; of LEFT, its recipient is the id. Who joins gets what is posted
        from then on. The status is KNOWN if nothing has changed: it is a copy, or they were in the room. A member is a
        name together with its key: a new owner of the name is in no room.

        `origin`: the address that created rooms count for; empty for none. Of all rooms, one key or address may create
        its share: see `is_fair`. Who has none gets the last one.

        The body of EPOCH is the signed epoch, whose signature and sender are not looked at, and its recipient the id.
        The first one creates the room; each says who is in it from then on. New members get it and what comes after it,
        those who are no longer in it an entry of kind REMOVED. Nobody is brought back who has left. Of the rooms that
        somebody may be in, one owner fills a share. Epochs that are no longer present are kept for as long as posts of
        their time may be, and EPOCHS_BYTES of them for each room; posts of older ones are not kept, either.
        """

    async def epoch(self, room: str, n: int, name: str, key: bytes) -> StoredEpoch | None:
        """Epoch `n` of a private room, or the present one if `n` is 0; None if this name of this key is not to have it.

        Each epoch is for those who are listed in it, also when they have left or were removed since. The present one is
        given without its number to those only who are in the room.
        """

    async def rooms(self) -> list[tuple[str, str]]:
        """The ids and names of all rooms, with that of everyone."""

    async def list_rooms(self, name: str, key: bytes, after: str, own: bool, count: int) -> list[Room]:
        """The next rooms in the order of their names, as this name of this key sees them.

        `own`: only those that it is in. Private rooms are listed for their members alone.
        """

    async def is_member(self, room: str, name: str, key: bytes) -> bool:
        """Whether this name of this key is in a room that is not that of everyone."""

    async def list_members(self, room: str, after: str, count: int) -> list[str]:
        """The next names of those in a room, in order."""

    async def read(self, name: str, after: int) -> Page:
        """What comes next for a name at this position, from one moment; see `first_batch`. Own posts are left out.

        If posts that the page passes are no longer kept, their number is its first entry. It is about the whole page:
        a part of such a page must not be acknowledged.
        """

    async def acknowledge(self, acknowledged: Sequence[Acknowledged], at: float) -> None:
        """Move positions forward, never back. For each letter that this passes, append its receipt for its sender.

        If the receipt is missing or empty, none is appended: for its sender the letter is as if it was not read.
        """

    async def advance(self, positions: Mapping[str, int]) -> None:
        """Move positions forward past posts and receipts, never back: there is no letter in between."""

    async def retain(self, before: float, now: float) -> bool:
        """Remove a part of what was taken before this time; False if there is no more of it.

        A letter without a receipt is answered with an entry of kind FAILED. What is dated later than `now`, because
        the clock was wrong, is dated now. A room in which nobody has been since then is removed.
        """

    async def date_forward(self, before: float, now: float) -> None:
        """The clock was set forward: what is dated before this time is dated now, also in what `unused` knows."""
